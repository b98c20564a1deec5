"""A node's control endpoint over HTTPS: its certificate is pinned, the secret of its enrolment our bearer.

A client for each node, for a pool of connections must not lead from one node's certificate to another's
address. Connections are kept while a node is spoken with: a handshake costs more than all the rest of a join.
They are few, as each costs a node 256 KiB of buffers for TLS, and what a node is asked takes it milliseconds.
A pool closes what has expired only when it is used again, so a client that is not used is let go as a whole.
"""

import asyncio
import ssl
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ValidationError

from controlplane.adapters.control.pinned import PinnedContext
from controlplane.domain.nodes.model import Node
from controlplane.ports.control import NodeRefused, NodeUnreachable
from controlplane.wire.base import Problem
from controlplane.wire.inside import SessionInside
from controlplane.wire.nodes import SessionAnswer, SessionPatch, SessionRequest

TIMEOUT = httpx.Timeout(5.0, connect=1.0)
ASKED = httpx.Timeout(3.0, connect=1.0)  # somebody waits for what the node knows
QUICK = httpx.Timeout(1.0)
AT_ONCE = 8  # connections to one node; who needs one waits for it as for an answer
IDLE_S = 30.0  # until what a node was spoken with is let go

Answer = TypeVar("Answer", bound=BaseModel)


@dataclass
class _Kept:
    """What one node is spoken with."""

    fingerprint: str
    client: httpx.AsyncClient
    calls: int = 0  # under way
    idle: asyncio.TimerHandle | None = None  # runs while there are none


class HttpNodeControl:
    """ports.control.NodeControl."""

    def __init__(
        self,
        secret_of: Callable[[Node], str],
        known: Callable[[], Collection[str]],
        *,
        idle: float = IDLE_S,
    ) -> None:
        """`known`: the nodes there are; what was kept for others is let go. `idle` is in seconds."""
        self._secret_of = secret_of
        self._known = known
        self._idle = idle
        self._limits = httpx.Limits(max_connections=AT_ONCE, keepalive_expiry=idle)
        self._kept: dict[str, _Kept] = {}  # by the node's id
        self._closing: set[asyncio.Task[None]] = set()

    async def create_session(self, node: Node, request: SessionRequest) -> SessionAnswer:
        response = await self._call(node, "POST", "/v1/sessions", json=request.model_dump(mode="json"))
        return _read(node, SessionAnswer, response)

    async def end_session(self, node: Node, session: str, reason: str) -> None:
        try:
            await self._call(node, "DELETE", f"/v1/sessions/{session}", params={"reason": reason})
        except NodeRefused as error:
            if error.problem.status != 404:
                raise

    async def patch_session(
        self, node: Node, session: str, fragment: str, if_match: str
    ) -> SessionPatch | None:
        response = await self._call(
            node,
            "PATCH",
            f"/v1/sessions/{session}",
            content=fragment.encode(),
            headers={"Content-Type": "application/trickle-ice-sdpfrag", "If-Match": if_match},
        )
        return None if response.status_code == 204 else _read(node, SessionPatch, response)

    async def resubscribe(self, node: Node, channel: str) -> None:
        await self._call(node, "POST", f"/v1/channels/{channel}/resubscribe")

    async def end_channel(self, node: Node, channel: str, reason: str) -> None:
        try:
            await self._call(node, "POST", f"/v1/channels/{channel}/end", json={"reason": reason})
        except NodeRefused as error:
            if error.problem.status != 404:
                raise

    async def inspect(self, node: Node, session: str) -> SessionInside:
        path = f"/v1/sessions/{quote(session, safe='')}"
        response = await self._call(node, "GET", path, timeout=ASKED)
        return _read(node, SessionInside, response)

    async def metrics(self, node: Node) -> bytes:
        return (await self._call(node, "GET", "/metrics", timeout=ASKED)).content

    async def terminate(self, node: Node) -> None:
        await self._call(node, "POST", "/v1/terminate")

    async def refuses(self, node: Node) -> bool:
        try:
            await self._call(node, "GET", "/v1/health", timeout=QUICK)
        except NodeUnreachable as error:
            return error.refused
        except NodeRefused:
            return False
        return False

    async def close(self) -> None:
        everything, self._kept = self._kept, {}
        for kept in everything.values():
            await _closed(kept)
        await asyncio.gather(*self._closing)

    def _let_go(self, name: str, kept: _Kept) -> None:
        """Nothing was asked of a node for a while."""
        if self._kept.get(name) is kept:
            del self._kept[name]
            closing = asyncio.create_task(_closed(kept))
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    async def _keep(self, node: Node) -> _Kept:
        fingerprint = node.control_fingerprint
        if fingerprint is None:
            raise NodeUnreachable(node.id, "it enrolled without a certificate", refused=False)
        kept = self._kept.get(node.id)
        if kept is not None and kept.fingerprint == fingerprint:
            return kept
        client = httpx.AsyncClient(
            timeout=TIMEOUT,
            trust_env=False,  # nodes are never behind the proxy of somebody's shell
            limits=self._limits,
            verify=PinnedContext(fingerprint),
        )
        gone = self._kept.keys() - set(self._known()) | {node.id}
        old = [self._kept.pop(name) for name in gone & self._kept.keys()]
        kept = self._kept[node.id] = _Kept(fingerprint, client)
        for other in old:
            await _closed(other)
        return kept

    async def _call(
        self, node: Node, method: str, path: str, *, headers: dict[str, str] | None = None, **more: Any
    ) -> httpx.Response:
        if node.control_url is None:
            raise NodeUnreachable(node.id, "it has not enrolled yet", refused=False)
        kept = await self._keep(node)
        headers = {"Authorization": f"Bearer {self._secret_of(node)}"} | (headers or {})
        kept.calls += 1
        if kept.idle is not None:
            kept.idle.cancel()
        try:
            response = await kept.client.request(method, node.control_url + path, headers=headers, **more)
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise _unreachable(node, error) from error
        finally:
            kept.calls -= 1
            if not kept.calls:
                kept.idle = asyncio.get_running_loop().call_later(self._idle, self._let_go, node.id, kept)
        if response.status_code >= 400:
            raise NodeRefused(node.id, _problem(response))
        return response


async def _closed(kept: _Kept) -> None:
    if kept.idle is not None:
        kept.idle.cancel()
    await kept.client.aclose()


def _read(node: Node, kind: type[Answer], response: httpx.Response) -> Answer:
    try:
        return kind.model_validate_json(response.content)
    except ValidationError as error:
        raise NodeUnreachable(node.id, f"its answer makes no sense: {error}", refused=False) from error


def _unreachable(node: Node, error: Exception) -> NodeUnreachable:
    """Only a refused connection says that the node has gone: a network that is away says nothing of it."""
    if isinstance(error, httpx.TimeoutException):  # what it was waiting for is no reason
        return NodeUnreachable(node.id, "it does not answer in time", refused=False)
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ConnectionRefusedError):
            return NodeUnreachable(node.id, "connection refused", refused=True)
        if isinstance(cause, ssl.SSLError):
            return NodeUnreachable(node.id, cause.strerror or str(cause), refused=False)
        cause = cause.__cause__ or cause.__context__
    return NodeUnreachable(node.id, str(error) or type(error).__name__, refused=False)


def _problem(response: httpx.Response) -> Problem:
    """The node's own words; a status alone where there are none."""
    try:
        return Problem.model_validate_json(response.content)
    except ValidationError:
        return Problem(
            code="node_error",
            title="The node did not take it",
            detail=f"It answered {response.status_code} {response.reason_phrase}.",
            status=response.status_code,
        )
