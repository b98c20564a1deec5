"""A whole stream manager in the test's process: real HTTP, real database, fake nodes at the network seam."""

import asyncio
import functools
import socket
import sqlite3
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from controlplane import listen, server
from controlplane.adapters.provision.memory import MemoryProvisioner
from controlplane.adapters.store import migrate
from controlplane.adapters.store.mysql.address import Address
from controlplane.compose import Stage, compose
from controlplane.config import ManagerConfig
from controlplane.ports.clock import Clock
from controlplane.ports.provisioner import LaunchSpec
from controlplane.services.tokens import sha256
from controlplane.wire.nodes import Role
from tests.controlplane.fake_node import OFFER, FakeNode
from tests.support.wait import NotInTime, wait_for

OPERATOR = "the-operator-of-this-test"
AS_OPERATOR = {"Authorization": f"Bearer {OPERATOR}"}
SDP = {"Content-Type": "application/sdp"}


@dataclass
class Show:
    """The running stage and short ways to do what people do with it."""

    stage: Stage
    http: httpx.AsyncClient
    provisioner: MemoryProvisioner
    url: str
    nodes: dict[str, FakeNode] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)

    @property
    def board(self) -> Any:
        return self.stage.manager.board

    async def get(self, path: str) -> Any:
        response = await self.http.get(f"/api/v1{path}", headers=AS_OPERATOR)
        assert response.status_code == 200, response.text
        return response.json()

    async def node_states(self) -> dict[str, str]:
        return {node["id"]: node["state"] for node in await self.get("/nodes")}

    async def until(self, states: dict[str, str], deadline: float = 5.0) -> None:
        async def there() -> bool:
            return states.items() <= (await self.node_states()).items()

        try:
            await wait_for(there, deadline, f"nodes in {states}")
        except NotInTime as error:
            raise NotInTime(f"{error}; they are {await self.node_states()}") from None

    async def until_gone(self, node: str, deadline: float = 5.0) -> None:
        async def gone() -> bool:
            return node not in await self.node_states()

        await wait_for(gone, deadline, f"{node} gone")

    async def until_stream(self, channel: str, state: str | None, deadline: float = 5.0) -> None:
        async def there() -> bool:
            found = {stream["channel"]: stream["state"] for stream in await self.get("/streams")}
            return found.get(channel) == state

        await wait_for(there, deadline, f"{channel} {state}")

    async def token(self, channel: str = "main") -> str:
        response = await self.http.post("/api/v1/tokens", headers=AS_OPERATOR, json={"channel": channel})
        assert response.status_code == 200, response.text
        return str(response.json()["token"])

    async def whip(
        self, channel: str = "main", token: str | None = None, offer: str = OFFER
    ) -> httpx.Response:
        token = token or await self.token(channel)
        self.tokens[channel] = token
        headers = SDP | {"Authorization": f"Bearer {token}"}
        return await self.http.post(f"/whip/{channel}", headers=headers, content=offer)

    async def whep(self, channel: str = "main", offer: str = OFFER, query: str = "") -> httpx.Response:
        return await self.http.post(f"/whep/{channel}{query}", headers=SDP, content=offer)

    async def on_air(self, channel: str = "main") -> str:
        """Publishes; the WHIP session's id."""
        response = await self.whip(channel)
        assert response.status_code == 201, response.text
        await self.until_stream(channel, "live")
        return response.headers["Location"].rpartition("/")[2]

    async def publisher_report(self, session: str | None, channel: str = "main") -> dict[str, Any]:
        report = {
            "line": {"at": "2026-01-01T00:00:00Z", "channel": channel, "state": "live"},
            "publisher": "the test",
            "session": session,
            "source": "test",
        }
        headers = {"Authorization": f"Bearer {self.tokens[channel]}"}
        response = await self.http.post(f"/api/v1/channels/{channel}/publisher", headers=headers, json=report)
        assert response.status_code == 200, response.text
        return dict(response.json())

    async def journal(self) -> list[str]:
        return [entry["kind"] for entry in await self.get("/journal?limit=1000")]

    async def crash(self, node: str) -> None:
        """A node's process dies."""
        await self.vanish(node)
        self.provisioner.vanish(node)

    async def vanish(self, node: str) -> None:
        """A node is gone, and the provisioner has not noticed. In a thread: it may be talking to us."""
        await asyncio.to_thread(self.nodes.pop(node).stop)


def settings(**sections: dict[str, Any]) -> ManagerConfig:
    return ManagerConfig.model_validate(sections)


@functools.cache
def fresh_database() -> bytes:
    """A new database, made once by the migrations: every test begins with a copy."""
    with tempfile.TemporaryDirectory() as folder:
        database = Path(folder) / "fresh.db"
        migrate.prepare(database)
        with closing(sqlite3.connect(database)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return database.read_bytes()


_address: Address | None = None


@contextmanager
def kept_on(address: Address) -> Iterator[None]:
    """The stages of one test keep their rows there, and not in a file."""
    global _address
    _address = address
    try:
        yield
    finally:
        _address = None


@asynccontextmanager
async def running(
    folder: Path,
    config: ManagerConfig | None = None,
    *,
    nodes: dict[str, FakeNode] | None = None,
    provisioner: MemoryProvisioner | None = None,
    bound: socket.socket | None = None,
    launches: bool = True,
    clock: Clock | None = None,
    manager: str | None = None,
) -> AsyncIterator[Show]:
    """A manager on `folder`. Give the `nodes`, `provisioner` and port of an earlier one: it is restarted.

    `manager`: what it goes by, beside others on the same database.
    """
    database, address = folder / "showcaller.db", _address
    if address is None and not database.exists():
        database.write_bytes(fresh_database())
    fakes: dict[str, FakeNode] = {} if nodes is None else nodes
    bound = bound or listen.bind("127.0.0.1", 0)
    url = f"http://127.0.0.1:{bound.getsockname()[1]}"

    async def on_launch(spec: LaunchSpec) -> None:
        fake = FakeNode(url, spec.token, Role(spec.role), spec.node)
        fakes[spec.node] = fake
        fake.start()

    async def on_end(node: str) -> None:
        if node in fakes:
            await asyncio.to_thread(fakes.pop(node).stop)

    own = provisioner is None
    provisioner = provisioner or MemoryProvisioner(on_launch, on_end, on_kill=on_end)
    with ExitStack() as held:
        if address is None:
            if manager is None:
                held.enter_context(migrate.ManagerLock(database))
            migrate.prepare(database)
        stage = await compose(
            config or ManagerConfig(),
            database=database,
            server=address,
            api=url,
            nodes_url=url,
            run_dir=folder,
            log_dir=folder,
            operator_sha256=sha256(OPERATOR),
            provisioner=provisioner,
            launches=launches,
            clock=clock,
            manager_id=manager,
            shared=manager is not None,
        )
        http_server = server.make(stage, bound, None)
        serving = asyncio.create_task(http_server.run_bound())
        await http_server.listens.wait()
        stage.start()
        # Nothing here speaks TLS, and to read whose signatures count takes a tenth of a test's time.
        async with httpx.AsyncClient(base_url=url, timeout=10, trust_env=False, verify=False) as client:
            try:
                yield Show(stage, client, provisioner, url, fakes)
            finally:
                stage.stop_feeds()
                http_server.should_exit = True
                await serving
                await stage.close()
                bound.close()
                if own and nodes is None:
                    for fake in list(fakes.values()):
                        await asyncio.to_thread(fake.stop)


@contextmanager
def on_thread(folder: Path) -> Iterator[str]:
    """A manager without nodes, on a thread of its own: whoever asks has this one. Its URL."""
    ready, ending, urls = threading.Event(), threading.Event(), []

    async def serve() -> None:
        async with running(folder, launches=False) as show:
            urls.append(show.url)
            ready.set()
            await asyncio.to_thread(ending.wait)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        assert ready.wait(20)
        yield urls[0]
    finally:
        ending.set()
        thread.join(20)
