"""A node and a node group, as the database keeps them."""

from dataclasses import dataclass

from controlplane.wire.fleet import Policy
from controlplane.wire.nodes import NodeState, Role


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One node. Times are Unix seconds. Secrets are kept as SHA-256 hex only.

    `reserved` is not here: it is a counter that only the database changes (see the store port).
    """

    id: str  # "edge-1"
    role: Role
    region: str
    state: NodeState
    state_since: float
    state_reason: str
    created_at: float
    capacity: int
    managed: bool = True  # launched by us and counted toward the group's desired number
    enrol_hash: str  # of the one-use enrolment token
    enrol_expires: float
    enrolled_at: float | None = None  # when the token was used
    credential_hash: str | None = None
    pid: int | None = None
    start_time: float | None = None  # see wire.processes.ProcessRecord
    control_url: str | None = None
    version: str | None = None
    in_service_at: float | None = None  # the first time
    faulted_at: float | None = None
    drain_deadline: float | None = None
    drain_viewers: int | None = None  # who were on it when its drain began
    drain_moved: int = 0  # of those: who have a session elsewhere by now
    control_fingerprint: str | None = None  # of its control endpoint's certificate: SHA-256, "AB:CD:.."


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """All nodes of one role and region, and how many of them there should be."""

    role: Role
    region: str
    desired: int
    last_number: int = 0  # of the names given so far: "edge-7" was number 7
    faults_from: float = 0.0  # faults before this moment were pardoned by an operator
    policy: Policy | None = None  # None: its nodes are added and ended by hand
    scaled_up_at: float | None = None  # when its policy last added nodes
    scaled_down_at: float | None = None  # or ended one

    @property
    def id(self) -> str:
        return f"{self.role}@{self.region}"
