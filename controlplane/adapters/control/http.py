"""A node's control endpoint over HTTPS: its certificate is pinned, the secret of its enrolment our bearer.

Connections are kept while a node is spoken with (`kept`): a handshake costs more than all the rest of a join.
They are few, as each costs a node 256 KiB of buffers for TLS, and what a node is asked takes it milliseconds.
"""

import ssl
from collections.abc import Callable
from typing import TypeVar
from urllib.parse import quote
from weakref import WeakValueDictionary

import orjson
from pydantic import BaseModel, ValidationError

from controlplane.adapters.control.kept import Answer as Raw
from controlplane.adapters.control.kept import KeptConnections
from controlplane.adapters.control.pinned import PinnedContext
from controlplane.domain.nodes.model import Node
from controlplane.ports.control import NodeRefused, NodeUnreachable
from controlplane.wire.base import Problem
from controlplane.wire.inside import SessionInside
from controlplane.wire.nodes import SessionAnswer, SessionPatch, SessionRequest, SessionsEnd, SessionsTold

CONNECT_S = 1.0
TIMEOUT_S = 5.0
ASKED_S = 3.0  # somebody waits for what the node knows
QUICK_S = 1.0
AT_ONCE = 8  # connections to one node; who needs one waits for it as for an answer
IDLE_S = 30.0  # a connection that nobody needed for so long is not used again, and soon closed
JSON = {"Content-Type": "application/json"}

Answer = TypeVar("Answer", bound=BaseModel)


class HttpNodeControl:
    """ports.control.NodeControl. Made where an event loop runs."""

    def __init__(self, secret_of: Callable[[Node], str], *, idle: float = IDLE_S) -> None:
        """`idle` is in seconds."""
        self._secret_of = secret_of
        self._contexts: WeakValueDictionary[str, PinnedContext] = WeakValueDictionary()  # by fingerprint
        self._nodes = KeptConnections(at_once=AT_ONCE, connect_s=CONNECT_S, idle_s=idle)

    async def create_session(self, node: Node, request: SessionRequest) -> SessionAnswer:
        _, answer = await self._call(
            node, "POST", "/v1/sessions", body=request.model_dump_json().encode(), headers=JSON
        )
        return _read(node, SessionAnswer, answer)

    async def end_sessions(self, node: Node, sessions: list[str], reason: str) -> None:
        wanted = SessionsEnd(ids=sessions, reason=reason)
        body = wanted.model_dump_json().encode()
        await self._call(node, "POST", "/v1/sessions/end", body=body, headers=JSON)

    async def patch_session(
        self, node: Node, session: str, fragment: str, if_match: str
    ) -> SessionPatch | None:
        status, answer = await self._call(
            node,
            "PATCH",
            f"/v1/sessions/{session}",
            body=fragment.encode(),
            headers={"Content-Type": "application/trickle-ice-sdpfrag", "If-Match": if_match},
        )
        return None if status == 204 else _read(node, SessionPatch, answer)

    async def resubscribe(self, node: Node, channel: str) -> None:
        await self._call(node, "POST", f"/v1/channels/{channel}/resubscribe")

    async def end_channel(self, node: Node, channel: str, reason: str) -> None:
        try:
            await self._call(
                node,
                "POST",
                f"/v1/channels/{channel}/end",
                body=orjson.dumps({"reason": reason}),
                headers=JSON,
            )
        except NodeRefused as error:
            if error.problem.status != 404:
                raise

    async def inspect(self, node: Node, session: str) -> SessionInside:
        path = f"/v1/sessions/{quote(session, safe='')}"
        _, answer = await self._call(node, "GET", path, within=ASKED_S)
        return _read(node, SessionInside, answer)

    async def sessions(self, node: Node) -> SessionsTold:
        _, answer = await self._call(node, "GET", "/v1/sessions", within=ASKED_S)
        return _read(node, SessionsTold, answer)

    async def metrics(self, node: Node) -> bytes:
        _, answer = await self._call(node, "GET", "/metrics", within=ASKED_S)
        return answer

    async def terminate(self, node: Node) -> None:
        await self._call(node, "POST", "/v1/terminate")

    async def refuses(self, node: Node) -> bool:
        try:
            await self._call(node, "GET", "/v1/health", within=QUICK_S)
        except NodeUnreachable as error:
            return error.refused
        except NodeRefused:
            return False
        return False

    async def close(self) -> None:
        await self._nodes.close()

    async def _call(
        self,
        node: Node,
        method: str,
        path: str,
        *,
        body: bytes = b"",
        headers: dict[str, str] | None = None,
        within: float = TIMEOUT_S,
    ) -> tuple[int, bytes]:
        """Status and body of the answer."""
        if node.control_url is None:
            raise NodeUnreachable(node.id, "it has not enrolled yet", refused=False)
        try:
            answer = await self._nodes.ask(
                method,
                node.control_url,
                path,
                self._context(node),
                {"Authorization": f"Bearer {self._secret_of(node)}"} | (headers or {}),
                body,
                within,
            )
        except (OSError, ValueError) as error:  # ValueError: a name that cannot be one
            raise _unreachable(node, error) from error
        if answer.status >= 300:  # a redirect too: what we ask is for this node alone
            raise NodeRefused(node.id, _problem(answer))
        return answer.status, answer.body

    def _context(self, node: Node) -> PinnedContext:
        """One for each certificate: what is kept with it is kept under it."""
        fingerprint = node.control_fingerprint
        if fingerprint is None:
            raise NodeUnreachable(node.id, "it enrolled without a certificate", refused=False)
        context = self._contexts.get(fingerprint)
        if context is None:
            context = self._contexts[fingerprint] = PinnedContext(fingerprint)
        return context


def _read(node: Node, kind: type[Answer], answer: bytes) -> Answer:
    try:
        return kind.model_validate_json(answer)
    except ValidationError as error:
        raise NodeUnreachable(node.id, f"its answer makes no sense: {error}", refused=False) from error


def _unreachable(node: Node, error: Exception) -> NodeUnreachable:
    """Only a refused connection says that the node has gone: a network that is away says nothing of it."""
    if isinstance(error, TimeoutError):  # what it was waiting for is no reason
        return NodeUnreachable(node.id, "it does not answer in time", refused=False)
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ConnectionRefusedError):
            return NodeUnreachable(node.id, "connection refused", refused=True)
        if isinstance(cause, ssl.SSLError):
            return NodeUnreachable(node.id, cause.strerror or str(cause), refused=False)
        cause = cause.__cause__ or cause.__context__
    return NodeUnreachable(node.id, str(error) or type(error).__name__, refused=False)


def _problem(answer: Raw) -> Problem:
    """The node's own words; a status alone where there are none."""
    try:
        return Problem.model_validate_json(answer.body)
    except ValidationError:
        return Problem(
            code="node_error",
            title="The node did not take it",
            detail=f"It answered {answer.status}.",
            status=answer.status,
        )
