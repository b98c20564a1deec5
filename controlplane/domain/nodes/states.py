"""The life of a node, as a table.

    requested -> creating -> booting -> in_service (<-> suspect) -> draining -> terminating -> terminated

and `faulty` from anywhere it can break. The row exists before anything is launched (`requested`); it says
`creating` before the provisioner is called, so that after a crash a row in `requested` is known to have no
process, and one in `creating` may have one.
"""

from controlplane.domain.machine import Machine
from controlplane.wire.nodes import NodeState

REQUESTED = NodeState.REQUESTED
CREATING = NodeState.CREATING
BOOTING = NodeState.BOOTING
IN_SERVICE = NodeState.IN_SERVICE
SUSPECT = NodeState.SUSPECT
DRAINING = NodeState.DRAINING
TERMINATING = NodeState.TERMINATING
TERMINATED = NodeState.TERMINATED
FAULTY = NodeState.FAULTY

MACHINE: Machine[NodeState] = Machine(
    "node",
    initial=REQUESTED,
    meanings={
        REQUESTED: "Written down, not launched.",
        CREATING: "The provisioner is being asked for it.",
        BOOTING: "It runs, and has not reported yet.",
        IN_SERVICE: "It reports, and takes new sessions.",
        SUSPECT: "Silent for a while: keeps its sessions, gets no new ones.",
        DRAINING: "Takes no new sessions, its viewers are moved; ends when empty or at its deadline.",
        TERMINATING: "Was told to end.",
        TERMINATED: "Gone.",
        FAULTY: "Died, never came up, or was silent too long: its sessions are moved and it is replaced.",
    },
    transitions=[
        (REQUESTED, CREATING, "its launch begins"),
        (REQUESTED, BOOTING, "an operator will start it by hand"),
        (REQUESTED, TERMINATED, "given up before its launch"),
        (CREATING, BOOTING, "its process runs"),
        (CREATING, FAULTY, "its launch failed"),
        (CREATING, TERMINATING, "no longer wanted"),
        (CREATING, TERMINATED, "not running when the stream manager started"),
        (BOOTING, IN_SERVICE, "enrolled and reported"),
        (BOOTING, FAULTY, "ended, or never reported"),
        (BOOTING, TERMINATING, "no longer wanted"),
        (BOOTING, TERMINATED, "not running when the stream manager started, or never started by hand"),
        (IN_SERVICE, SUSPECT, "silent for 10 s"),
        (IN_SERVICE, DRAINING, "an operator drains it, or its group's policy"),
        (IN_SERVICE, FAULTY, "its process ended, or it refuses connections"),
        (IN_SERVICE, TERMINATING, "the whole stage is ended"),
        (IN_SERVICE, TERMINATED, "not running when the stream manager started"),
        (SUSPECT, IN_SERVICE, "it reports again"),
        (SUSPECT, DRAINING, "an operator drains it, or its group's policy"),
        (SUSPECT, FAULTY, "silent for 60 s, or its process ended"),
        (SUSPECT, TERMINATING, "the whole stage is ended"),
        (SUSPECT, TERMINATED, "not running when the stream manager started"),
        (DRAINING, IN_SERVICE, "an operator takes the drain back"),
        (DRAINING, TERMINATING, "empty, or at its deadline"),
        (DRAINING, FAULTY, "its process ended before it was empty"),
        (DRAINING, TERMINATED, "not running when the stream manager started"),
        (TERMINATING, TERMINATED, "its process has ended"),
        (FAULTY, TERMINATED, "what was left of it has ended"),
    ],
)

LAUNCHING = frozenset({REQUESTED, CREATING, BOOTING})
"""On the way up."""

REPORTING = frozenset({IN_SERVICE, SUSPECT, DRAINING})
"""Expected to report twice a second, and reachable at a control endpoint."""

COUNTED = LAUNCHING | {IN_SERVICE, SUSPECT}
"""Count toward the number their group should have."""

LEAVING = frozenset({TERMINATING, FAULTY})
"""On the way out: told to end, whatever they still say."""

GONE = frozenset({TERMINATED})
