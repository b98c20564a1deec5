"""Nodes that exist only in memory: for tests, and for a manager that launches nothing itself (--no-nodes).

`on_launch`, when given, is called with the LaunchSpec: a test starts whatever stands for the node there, and
ends it in `on_end` and `on_kill`.
"""

import asyncio
import itertools
from collections.abc import Awaitable, Callable

from controlplane.ports.provisioner import Instance, LaunchSpec, Listing, ProvisionError


class MemoryProvisioner:
    """ports.provisioner.Provisioner."""

    settles_s = 0.0

    def __init__(
        self,
        on_launch: Callable[[LaunchSpec], Awaitable[None]] | None = None,
        on_end: Callable[[str], Awaitable[None]] | None = None,
        on_kill: Callable[[str], Awaitable[None]] | None = None,
    ) -> None:
        self._on_launch = on_launch
        self._on_end = on_end
        self._on_kill = on_kill
        self._on_ended: Callable[[str, str], None] = lambda node, reason: None
        self._instances: dict[str, Instance] = {}
        self._numbers = itertools.count(1_000_001)  # no pid is as high here
        self.refuse: str | None = None  # a reason to refuse the next launches with
        self.killed: list[str] = []  # as asked for

    def watch(self, on_ended: Callable[[str, str], None]) -> None:
        self._on_ended = on_ended

    async def launch(self, spec: LaunchSpec) -> Instance:
        if self.refuse is not None:
            raise ProvisionError(self.refuse)
        if spec.node in self._instances:
            raise ProvisionError(f"{spec.node} is already running")
        instance = Instance(spec.node, next(self._numbers), 1.0, spec.retry)
        self._instances[spec.node] = instance
        if self._on_launch is not None:
            await self._on_launch(spec)
        return instance

    async def adopt(self, node: str, pid: int | None, start_time: float | None) -> Instance | None:
        instance = self._instances.get(node)
        if instance is None or (pid is not None and pid != instance.pid):
            return None
        return instance

    async def end(self, node: str) -> None:
        if node in self._instances and self._on_end is not None:
            await self._on_end(node)
        self.vanish(node, "ended as asked")

    async def kill(self, node: str) -> None:
        self.killed.append(node)
        if node in self._instances and self._on_kill is not None:
            await self._on_kill(node)
        self.vanish(node, "killed")

    async def listing(self) -> Listing:
        return Listing(tuple(await self.running()))

    async def end_orphan(self, instance: Instance) -> None:
        await self.end(instance.node)

    async def running(self) -> list[Instance]:
        return sorted(self._instances.values(), key=lambda instance: instance.node)

    async def close(self) -> None:
        self._on_ended = lambda node, reason: None

    def vanish(self, node: str, reason: str = "ended by itself") -> None:
        """The instance ends, as a crash would."""
        if self._instances.pop(node, None) is not None:
            asyncio.get_running_loop().call_soon(lambda: self._on_ended(node, reason))
