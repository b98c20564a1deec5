"""A node's control endpoint over HTTPS: its certificate is pinned, the secret of its enrolment our bearer.

A client for each node, for a pool of connections must not lead from one node's certificate to another's
address. Connections are kept while a node is spoken with: a handshake costs more than all the rest of a join.
"""

import ssl
from collections.abc import Callable, Collection
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
LIMITS = httpx.Limits(max_connections=100, max_keepalive_connections=20, keepalive_expiry=30.0)

Answer = TypeVar("Answer", bound=BaseModel)


class HttpNodeControl:
    """ports.control.NodeControl."""

    def __init__(self, secret_of: Callable[[Node], str], known: Callable[[], Collection[str]]) -> None:
        """`known`: the nodes there are; what was kept for others is let go."""
        self._secret_of = secret_of
        self._known = known
        self._clients: dict[str, tuple[str, httpx.AsyncClient]] = {}  # node -> its fingerprint, its client

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
        clients, self._clients = self._clients, {}
        for _, client in clients.values():
            await client.aclose()

    async def _client(self, node: Node) -> httpx.AsyncClient:
        fingerprint = node.control_fingerprint
        if fingerprint is None:
            raise NodeUnreachable(node.id, "it enrolled without a certificate", refused=False)
        pinned, client = self._clients.get(node.id, ("", None))
        if client is not None and pinned == fingerprint:
            return client
        client = httpx.AsyncClient(
            timeout=TIMEOUT,
            trust_env=False,  # nodes are never behind the proxy of somebody's shell
            limits=LIMITS,
            verify=PinnedContext(fingerprint),
        )
        gone = self._clients.keys() - set(self._known()) | {node.id}
        old = [self._clients.pop(name)[1] for name in gone & self._clients.keys()]
        self._clients[node.id] = (fingerprint, client)
        for other in old:
            await other.aclose()
        return client

    async def _call(
        self, node: Node, method: str, path: str, *, headers: dict[str, str] | None = None, **more: Any
    ) -> httpx.Response:
        if node.control_url is None:
            raise NodeUnreachable(node.id, "it has not enrolled yet", refused=False)
        client = await self._client(node)
        headers = {"Authorization": f"Bearer {self._secret_of(node)}"} | (headers or {})
        try:
            response = await client.request(method, node.control_url + path, headers=headers, **more)
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise _unreachable(node, error) from error
        if response.status_code >= 400:
            raise NodeRefused(node.id, _problem(response))
        return response


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
