"""What the fleet needs of whatever runs its nodes: processes here, virtual machines elsewhere.

The row of a node, with the hash of its enrolment token, is in the database before `launch` is called. The
provisioner notices by itself when something it launched or adopted ends, and says so through the callback
given to `watch`: at once, never by silence.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from controlplane.wire.nodes import Role


class ProvisionError(Exception):
    """The node could not be launched. The message says why and what to do."""


class ProvisionUnknown(Exception):
    """The provider was asked and gave no answer: what was asked for may have happened, or may happen yet."""


@dataclass(frozen=True, slots=True)
class LaunchSpec:
    """What to launch. `token` is the one-use enrolment token: in no argument list and no log."""

    node: str
    role: Role
    capacity: int
    token: str = field(repr=False)
    retry: str = ""  # asked again with the same, the provider launches nothing more


@dataclass(frozen=True, slots=True)
class Instance:
    """Something that runs: which node it is, and how to know it again after a restart."""

    node: str
    pid: int | None
    start_time: float | None
    retry: str = ""  # it was launched with; "" where the provider does not keep it


@dataclass(frozen=True, slots=True)
class Listing:
    """What a provider says there is. Where it is not `complete`, what is not in it may be there."""

    instances: tuple[Instance, ...]
    complete: bool = True


class Provisioner(Protocol):
    settles_s: float
    """How long after a launch was asked for even a complete listing may lack it."""

    def watch(self, on_ended: Callable[[str, str], None]) -> None:
        """Call `on_ended(node, reason)` once for each launched or adopted instance that has ended.

        Called in the event loop's thread. Give the callback before launching anything.
        """
        ...

    async def launch(self, spec: LaunchSpec) -> Instance:
        """Start one instance. Returns when it runs, not when it has enrolled.

        Raises ProvisionError when it cannot be started, or when that node is already running, and
        ProvisionUnknown when nobody knows.
        """
        ...

    async def adopt(self, node: str, pid: int | None, start_time: float | None) -> Instance | None:
        """Know again what an earlier manager launched, and watch it. None if it no longer runs.

        `pid` and `start_time` are what the database remembers; None asks the provisioner's own records.
        Raises ProvisionUnknown.
        """
        ...

    async def end(self, node: str) -> None:
        """Ask the instance to end, and make it end if it does not. Returns once asked; `on_ended` follows.

        Nothing happens for an unknown node or one that has ended: ending is idempotent. Raises
        ProvisionUnknown.
        """
        ...

    async def kill(self, node: str) -> None:
        """End the instance at once, as a crash would: nobody on it is told, nothing is put away. `on_ended`
        follows, as after any death. Only for what is meant to look like one (a drill); else `end`.

        Nothing happens for an unknown node or one that has ended.
        """
        ...

    async def listing(self) -> Listing:
        """What the provider itself says is there of this stage, whoever launched it. Raises ProvisionUnknown.

        A failing or partial listing says nothing of what is not in it.
        """
        ...

    async def end_orphan(self, instance: Instance) -> None:
        """End one of the listing that is nobody's. Returns once asked. Raises ProvisionUnknown."""
        ...

    async def running(self) -> list[Instance]:
        """Everything launched or adopted that has not ended, by name."""
        ...

    async def close(self) -> None:
        """Stop watching. What runs goes on running."""
        ...
