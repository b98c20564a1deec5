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


@dataclass(frozen=True, slots=True)
class LaunchSpec:
    """What to launch. `token` is the one-use enrolment token: in no argument list and no log."""

    node: str
    role: Role
    capacity: int
    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Instance:
    """Something that runs: which node it is, and how to know it again after a restart."""

    node: str
    pid: int | None
    start_time: float | None


class Provisioner(Protocol):
    def watch(self, on_ended: Callable[[str, str], None]) -> None:
        """Call `on_ended(node, reason)` once for each launched or adopted instance that has ended.

        Called in the event loop's thread. Give the callback before launching anything.
        """
        ...

    async def launch(self, spec: LaunchSpec) -> Instance:
        """Start one instance. Returns when it runs, not when it has enrolled.

        Raises ProvisionError when it cannot be started, or when that node is already running.
        """
        ...

    async def adopt(self, node: str, pid: int | None, start_time: float | None) -> Instance | None:
        """Know again what an earlier manager launched, and watch it. None if it no longer runs.

        `pid` and `start_time` are what the database remembers; None asks the provisioner's own records.
        """
        ...

    async def end(self, node: str) -> None:
        """Ask the instance to end, and make it end if it does not. Returns once asked; `on_ended` follows.

        Nothing happens for an unknown node or one that has ended: ending is idempotent.
        """
        ...

    async def kill(self, node: str) -> None:
        """End the instance at once, as a crash would: nobody on it is told, nothing is put away. `on_ended`
        follows, as after any death. Only for what is meant to look like one (a drill); else `end`.

        Nothing happens for an unknown node or one that has ended.
        """
        ...

    async def running(self) -> list[Instance]:
        """Everything launched or adopted that has not ended, by name."""
        ...

    async def close(self) -> None:
        """Stop watching. What runs goes on running."""
        ...
