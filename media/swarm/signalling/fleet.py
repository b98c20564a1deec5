"""The simulated fleet: brought into service by the operator's API, with one broadcast on air; and its end."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path

import orjson

from controlplane.wire.nodes import Role
from media.core.sdp import LocalDescription, make_relay_offer, new_credentials
from media.publisher.errors import NoConnection, PublishError, Refused, TimedOut
from media.swarm.signalling.http import Answer, Away, Server
from media.swarm.signalling.joins import FINGERPRINT, SDP
from media.swarm.signalling.ledger import Ledger
from media.swarm.signalling.node import JSON, SimulatedNode

INVITED_S = 120  # a node that is not started by then is forgotten
SERVICE_S = 60.0
LIVE_S = 15.0
LEAVE_S = 20.0
AT_ONCE = 4  # that enrol, or are drained
LOOK_S = 0.1


class Fleet:
    def __init__(
        self, servers: Sequence[Server], token: str, channel: str, ledger: Ledger, listen: str
    ) -> None:
        """`token` is the operator's; nodes `listen` at this address."""
        self.nodes: list[SimulatedNode] = []
        self._servers = servers
        self._operator = f"Authorization: Bearer {token}\r\n".encode()
        self._channel = channel
        self._listen = listen
        self.ledger = ledger
        self._turns = itertools.cycle(range(len(servers)))  # which of them a node asks first
        self._published: tuple[bytes, bytes] | None = None  # its resource, and its token's header

    async def start(self, edges: int, folder: Path) -> None:
        """An origin and so many edges, in service as each manager sees it. `folder`: see SimulatedNode.

        Raises PublishError.
        """
        numbers = iter([Role.ORIGIN, *[Role.EDGE] * edges])

        async def some() -> None:
            for role in numbers:
                await self._start_one(role, folder)

        starting = [asyncio.create_task(some()) for _ in range(AT_ONCE)]
        try:
            await asyncio.gather(*starting)
        finally:
            for task in starting:
                task.cancel()
        await self._until(self._in_service, SERVICE_S, "its simulated nodes did not come into service")

    async def _start_one(self, role: Role, folder: Path) -> None:
        first = next(self._turns)
        order = [*self._servers[first:], *self._servers[:first]]
        said = await self._operate(b"POST", "/api/v1/enrolments", {"role": role, "ttl_s": INVITED_S})
        node = SimulatedNode(role, str(said.json()["node"]), order, self.ledger, self._listen)
        self.nodes.append(node)
        try:
            await node.start(str(said.json()["token"]), folder)
        except Away as error:
            raise _no_answer(order[0], error) from error
        except OSError as error:
            raise Refused(
                f"nodes cannot listen at {self._listen}: {error.strerror or error}",
                "Give --control-listen an address of this machine's.",
            ) from error

    async def _in_service(self, server: Server) -> bool:
        states = {row["id"]: row["state"] for row in await self.rows(server)}
        return all(states.get(node.name) == "in_service" for node in self.nodes)

    async def rows(self, server: Server | None = None) -> list[dict[str, object]]:
        """All nodes, as one manager shows them; None: the first that answers. Raises PublishError."""
        return list(orjson.loads((await self._operate(b"GET", "/api/v1/nodes", on=server)).body))

    async def capacity(self) -> dict[str, int]:
        """Of each simulated edge."""
        ours = {node.name for node in self.nodes if node.role is Role.EDGE}
        return {str(row["id"]): int(str(row["capacity"])) for row in await self.rows() if row["id"] in ours}

    async def go_on_air(self) -> None:
        """A broadcast, published to the simulated origin. Raises PublishError."""
        said = await self._operate(b"POST", "/api/v1/tokens", {"channel": self._channel})
        bearer = f"Authorization: Bearer {said.json()['token']}\r\n".encode()
        local = LocalDescription(new_credentials(lambda size: bytes(size)), FINGERPRINT, (("192.0.2.7", 9),))
        offer = make_relay_offer(local).replace("a=recvonly", "a=sendonly").encode()
        path = f"/whip/{self._channel}".encode()
        try:
            answer = await self._servers[0].ask(b"POST", path, offer, SDP + bearer)
        except Away as error:
            raise _no_answer(self._servers[0], error) from error
        if answer.status != 201:
            raise answer.refusal(f"{self._channel} cannot be published")
        self._published = answer.headers[b"location"], bearer
        await self._until(self._is_live, LIVE_S, f"{self._channel} did not come on air")

    async def _is_live(self, server: Server) -> bool:
        streams = orjson.loads((await self._operate(b"GET", "/api/v1/streams", on=server)).body)
        row = next((it for it in streams if it["channel"] == self._channel), None)
        if row is not None and row["origin"] not in (None, *(node.name for node in self.nodes)):
            raise Refused(
                f"{self._channel} was placed on {row['origin']}, a real origin, and no media will come to it",
                "Take a stage without origins of its own (showcaller serve --no-nodes).",
            )
        return row is not None and row["state"] == "live"

    async def leave(self) -> None:
        """The broadcast ends and the nodes are drained at once, as far as anybody answers."""
        if self._published is not None:
            resource, bearer = self._published
            try:
                await self._servers[0].ask(b"DELETE", resource, headers=bearer, within=LEAVE_S)
            except Away:
                pass  # it ends when its origin has gone
        nodes = iter(self.nodes)
        await asyncio.gather(*(self._drain(nodes) for _ in range(AT_ONCE)))
        try:
            async with asyncio.timeout(LEAVE_S):
                await asyncio.gather(*(node.over.wait() for node in self.nodes))
        except TimeoutError:
            pass
        await self.stop()

    async def _drain(self, nodes: Iterator[SimulatedNode]) -> None:
        for node in nodes:
            try:
                drain = {"deadline_s": 0, "channels": [self._channel]}
                await self._operate(b"POST", f"/api/v1/nodes/{node.name}/drain", drain)
            except PublishError:
                continue  # gone already, or never come into service: its manager forgets it by itself

    async def stop(self) -> None:
        """Gone, without a word."""
        for node in self.nodes:
            await node.stop()

    # the operator's API

    async def _operate(
        self, method: bytes, path: str, body: object = None, on: Server | None = None
    ) -> Answer:
        """Asked of one manager, or of each until one answers. Raises PublishError."""
        sent = b"" if body is None else orjson.dumps(body)
        failed: PublishError | None = None
        for server in self._servers if on is None else [on]:
            try:
                answer = await server.ask(method, path.encode(), sent, JSON + self._operator)
            except Away as error:
                failed = failed or _no_answer(server, error)
                continue
            if answer.status >= 300:
                raise answer.refusal(f"{server.url} refused {method.decode()} {path}")
            return answer
        assert failed is not None
        raise failed

    async def _until(
        self, true_on: Callable[[Server], Awaitable[bool]], within: float, otherwise: str
    ) -> None:
        """Until it is so on each manager."""
        try:
            async with asyncio.timeout(within):
                for server in self._servers:
                    while not await true_on(server):  # noqa: ASYNC110  only by asking it is known
                        await asyncio.sleep(LOOK_S)
        except TimeoutError:
            raise TimedOut(
                f"{otherwise} within {within:g} s, as {server.url} sees it", "Look at its log."
            ) from None


def _no_answer(server: Server, error: Away) -> PublishError:
    return NoConnection(f"{server.url} does not answer ({error})", "Check the address, and that it runs.")
