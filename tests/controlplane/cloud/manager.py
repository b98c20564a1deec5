"""`python -m tests.controlplane.cloud.manager ARGUMENTS`: the stream manager, with its nodes in a cloud.

Everything but the provisioner is the program's own: `controlplane.main` is called with the arguments. Where
the cloud is stands in SHOWCALLER_TEST_CLOUD. What a running fleet is compared with the provider's listing
once in half a minute for is done every two seconds here, so that a test need not wait.
"""

import asyncio
import os
import sys
from collections.abc import Callable
from typing import Any

import httpx

from controlplane import compose, main
from controlplane.ports.provisioner import Instance, LaunchSpec, Listing, ProvisionUnknown
from controlplane.services import reconcile

VARIABLE = "SHOWCALLER_TEST_CLOUD"
WATCH_S = 0.3
COMPARED_EVERY_S = 2.0


class HttpCloudProvisioner:
    """ports.provisioner.Provisioner, at the cloud of server.py."""

    settles_s = 1.0

    def __init__(self, url: str, manager: str) -> None:
        """`manager`: where the nodes report."""
        self._http = httpx.AsyncClient(base_url=url, trust_env=False, timeout=5.0)
        self._manager = manager
        self._known: dict[str, Instance] = {}
        self._on_ended: Callable[[str, str], None] = lambda node, reason: None
        self._watching: asyncio.Task[None] | None = None

    async def _ask(self, method: str, path: str, **words: Any) -> dict[str, Any]:
        try:
            response = await self._http.request(method, path, **words)
        except httpx.TransportError as error:
            raise ProvisionUnknown(f"no answer to {method} {path}") from error
        if response.status_code != 200:
            raise ProvisionUnknown(f"{method} {path} was answered by {response.status_code}")
        return dict(response.json())

    async def _list(self, path: str) -> Listing:
        said = await self._ask("GET", path)
        found = (Instance(it["node"], it["pid"], 1.0, it["retry"]) for it in said["instances"])
        return Listing(tuple(found), said["complete"])

    def watch(self, on_ended: Callable[[str, str], None]) -> None:
        self._on_ended = on_ended
        self._watching = asyncio.ensure_future(self._watch())

    async def _watch(self) -> None:
        """A cloud tells nobody that an instance has ended: it is asked."""
        while True:
            await asyncio.sleep(WATCH_S)
            known = dict(self._known)
            try:
                there = {it.pid for it in (await self._list("/instances?watch")).instances}
            except ProvisionUnknown:
                continue
            for node, instance in known.items():
                if instance.pid not in there and self._known.get(node) == instance:
                    del self._known[node]
                    self._on_ended(node, "its instance has ended")

    async def launch(self, spec: LaunchSpec) -> Instance:
        asked = {"node": spec.node, "token": spec.token, "retry": spec.retry, "manager": self._manager}
        said = await self._ask("POST", "/instances", json=asked)
        instance = Instance(spec.node, said["pid"], 1.0, spec.retry)
        self._known[spec.node] = instance
        return instance

    async def adopt(self, node: str, pid: int | None, start_time: float | None) -> Instance | None:
        listing = await self._list("/instances")
        for instance in listing.instances:
            if instance.node == node and pid in (None, instance.pid):
                self._known[node] = instance
                return instance
        if not listing.complete:
            raise ProvisionUnknown("the listing is not complete")
        return None

    async def end(self, node: str) -> None:
        if (instance := self._known.get(node)) is not None:
            await self._ask("DELETE", f"/instances/{instance.pid}")

    async def kill(self, node: str) -> None:
        await self.end(node)

    async def listing(self) -> Listing:
        return await self._list("/instances")

    async def end_orphan(self, instance: Instance) -> None:
        await self._ask("DELETE", f"/instances/{instance.pid}")

    async def running(self) -> list[Instance]:
        return sorted(self._known.values(), key=lambda instance: instance.node)

    async def close(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        await self._http.aclose()


def _in_the_cloud(config: object, nodes_url: str, *places: object, launches: bool) -> HttpCloudProvisioner:
    return HttpCloudProvisioner(os.environ[VARIABLE], nodes_url)


if __name__ == "__main__":
    compose._provisioner = _in_the_cloud  # type: ignore[assignment]
    reconcile.EVERY_S = COMPARED_EVERY_S
    sys.exit(main.main())
