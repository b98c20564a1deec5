"""A cloud in memory that loses answers, is late and lists in part; managers that die at a given moment."""

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, NoReturn

from controlplane.ports.provisioner import Instance, LaunchSpec, Listing, ProvisionUnknown
from controlplane.ports.store import Store

ON_ITS_WAY = "a launch is on its way to the cloud"


class Fuse:
    """Counts the moments at which a manager can die, and at one of them lets it: from then on nothing that it
    says reaches anybody, and nothing that it waits for comes. As after a kill -9.

    `stop`: it is not dead at that moment but stopped, and goes on when `go_on` is called (SIGSTOP, SIGCONT).
    """

    def __init__(self, at: int | None = None, *, stop: bool = False) -> None:
        self.count = 0
        self.where = ""
        self.blown = asyncio.Event()
        self._at = at
        self._stop = stop
        self._resumed = asyncio.Event()

    async def point(self, where: str = "") -> None:
        if self.count == self._at:
            self.where = where
            self.blown.set()
        self.count += 1
        if self.blown.is_set():
            if not self._stop:
                await asyncio.Future()
            await self._resumed.wait()

    def go_on(self) -> None:
        self._at = None
        self._resumed.set()


class MortalStore:
    """ports.store.Store of a manager that may die before it asks, or before it has the answer."""

    def __init__(self, store: Store, fuse: Fuse) -> None:
        self._store = store
        self._fuse = fuse

    async def read(self, work: Callable[[Any], Awaitable[Any]]) -> Any:
        await self._fuse.point()
        return await self._store.read(work)

    async def write(self, work: Callable[[Any], Awaitable[Any]], **words: Any) -> Any:
        await self._fuse.point()
        result = await self._store.write(work, **words)
        await self._fuse.point()
        return result

    async def close(self) -> None:
        await self._store.close()


SETTLES_S = 2.0  # after so long a listing has whatever was launched


@dataclass
class Cloud:
    """What outlives every manager. `chance` None: it does what it is asked, and says so."""

    chance: random.Random | None = None
    instances: list[Instance] = field(default_factory=list)
    late: list[Instance] = field(default_factory=list)  # were asked for, and come about `late_s` later
    now: Callable[[], float] = lambda: 0.0  # monotonic
    late_s: float = 0.75 * SETTLES_S
    launched: list[str] = field(default_factory=list)  # retry tokens, once each
    ended: int = 0
    _due: dict[str, float] = field(default_factory=dict)  # retry token -> when
    _numbers: Any = field(default_factory=lambda: itertools.count(1_000_001))

    def happens(self, likely: float) -> bool:
        return self.chance is not None and self.chance.random() < likely

    def launch(self, spec: LaunchSpec) -> Instance:
        for instance in (*self.instances, *self.late):
            if instance.retry == spec.retry:
                return instance
        instance = Instance(spec.node, next(self._numbers), 1.0, spec.retry)
        self.launched.append(spec.retry)
        if self.happens(0.1):
            self.late.append(instance)
            self._due[instance.retry] = self.now() + self.late_s
            no_answer("the launch")
        self.instances.append(instance)
        if self.happens(0.2):
            no_answer("the launch")
        return instance

    def list(self) -> Listing:
        self.instances += [it for it in self.late if self.now() >= self._due[it.retry]]
        self.late = [it for it in self.late if self.now() < self._due[it.retry]]
        present = tuple(self.instances)
        if self.happens(0.2):
            no_answer("the listing")
        if self.chance is not None and self.happens(0.2):
            return Listing(tuple(it for it in present if self.happens(0.5)), complete=False)
        return Listing(present)

    def end(self, instance: Instance) -> None:
        if self.happens(0.1):
            no_answer("the end")
        if instance in self.instances:
            self.instances.remove(instance)
            self.ended += 1
        if self.happens(0.1):
            no_answer("the end")


def no_answer(to: str) -> NoReturn:
    raise ProvisionUnknown(f"no answer to {to}")


class CloudProvisioner:
    """ports.provisioner.Provisioner: one manager's way to the cloud."""

    settles_s = SETTLES_S

    def __init__(self, cloud: Cloud, fuse: Fuse) -> None:
        self._cloud = cloud
        self._fuse = fuse
        self._known: dict[str, Instance] = {}

    def watch(self, on_ended: Callable[[str, str], None]) -> None:
        """Nothing in it ends by itself."""

    async def launch(self, spec: LaunchSpec) -> Instance:
        await self._fuse.point(ON_ITS_WAY)
        instance = self._cloud.launch(spec)
        await self._fuse.point()
        self._known[spec.node] = instance
        return instance

    async def adopt(self, node: str, pid: int | None, start_time: float | None) -> Instance | None:
        await self._fuse.point()
        listing = self._cloud.list()
        for instance in listing.instances:
            if instance.node == node and pid in (None, instance.pid):
                self._known[node] = instance
                return instance
        if not listing.complete:
            no_answer("whether it runs")
        return None

    async def end(self, node: str) -> None:
        await self._fuse.point()
        if node in self._known:
            self._cloud.end(self._known[node])
            del self._known[node]

    async def listing(self) -> Listing:
        await self._fuse.point()
        return self._cloud.list()

    async def end_orphan(self, instance: Instance) -> None:
        await self._fuse.point()
        self._cloud.end(instance)

    async def running(self) -> list[Instance]:
        return list(self._known.values())

    async def close(self) -> None:
        """Nothing is held."""
