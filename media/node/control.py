"""The node's control endpoint, where the stream manager makes and ends sessions.

Served over TLS with a certificate of the node's own, which the manager has pinned (trust.py). Who asks shows
the secret of the enrolment as bearer. Metrics may also be read, and nothing else done, with a token that the
manager has for that (docs/decisions/0017); only its SHA-256 is known here.

It is a plain ASGI application: each viewer is two requests, and a framework's way to a handler and back was
most of what they cost a node (docs/decisions/0024).
"""

import hmac
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, Protocol
from urllib.parse import parse_qs

import orjson
from pydantic import BaseModel, ValidationError

from controlplane.wire.base import Problem
from controlplane.wire.inside import SessionInside
from controlplane.wire.nodes import SessionAnswer, SessionPatch, SessionRequest
from media.node.metrics import CONTENT_TYPE

MAX_BODY = 256 * 1024  # a 64 KiB offer, escaped


class ControlError(Exception):
    """A Problem to answer with."""

    def __init__(self, status: int, code: str, title: str, detail: str = "") -> None:
        super().__init__(detail or title)
        self.problem = Problem(status=status, code=code, title=title, detail=detail)


class NodeControl(Protocol):
    """What the endpoint asks of the agent; methods raise ControlError."""

    @property
    def control_secret(self) -> str | None:
        """None before enrolment: then nobody is served."""

    def health(self) -> dict[str, Any]: ...

    async def create_session(self, request: SessionRequest) -> SessionAnswer: ...

    async def end_session(self, session_id: str, reason: str) -> None: ...

    async def patch(self, session_id: str, fragment: str, if_match: str | None) -> SessionPatch | None:
        """None where nothing but candidates came."""

    async def inspect(self, session_id: str) -> SessionInside:
        """What is inside a session, for support."""

    async def end_channel(self, channel: str, reason: str) -> None: ...

    async def resubscribe(self, channel: str, reason: str) -> None: ...

    def may_read_metrics(self, token: str) -> bool:
        """Whether this is the token that reads metrics and nothing else."""

    async def metrics(self) -> bytes:
        """As Prometheus reads them; see metrics.py."""

    def terminate(self, reason: str) -> None:
        """End soon; returns at once."""


@dataclass(frozen=True, slots=True)
class _Answer:
    """What a request is answered with."""

    status: int
    body: bytes = b""
    content_type: str = "application/json"
    headers: tuple[tuple[bytes, bytes], ...] = ()


Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]


class _Request:
    """One request, its body still to come."""

    __slots__ = ("_headers", "_query", "_receive", "of")

    def __init__(self, scope: Scope, receive: Receive, of: str) -> None:
        """`of` is what stands for the star in its path: which session, which channel."""
        self._headers: list[tuple[bytes, bytes]] = scope["headers"]  # names in lower case
        self._query: bytes = scope["query_string"]
        self._receive = receive
        self.of = of

    def header(self, name: bytes) -> str | None:
        return next((value.decode("latin-1") for key, value in self._headers if key == name), None)

    def query(self, name: str, default: str) -> str:
        values = parse_qs(self._query.decode("latin-1"), keep_blank_values=True).get(name)
        return default if values is None else values[-1]

    @property
    def bearer(self) -> str:
        """The bearer token, or nothing."""
        scheme, _, given = (self.header(b"authorization") or "").partition(" ")
        return given if scheme.lower() == "bearer" else ""

    async def body(self) -> bytes:
        """Raises ControlError when it is too long."""
        chunks: list[bytes] = []
        size, more = 0, True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ControlError(400, "cut_off", "The request is not whole")
            chunk: bytes = message.get("body", b"")
            size += len(chunk)
            if size > MAX_BODY:
                raise ControlError(413, "too_large", "The request is too large", f"At most {MAX_BODY} bytes.")
            chunks.append(chunk)
            more = message.get("more_body", False)
        return b"".join(chunks)

    async def reason(self, default: str) -> str:
        """A JSON body {"reason": ...} or none."""
        try:
            value = orjson.loads(await self.body() or b"{}")
        except ValueError:
            return default
        reason = value.get("reason") if isinstance(value, dict) else None
        return reason if isinstance(reason, str) and reason else default


Handler = Callable[[NodeControl, _Request], Awaitable[_Answer]]


async def _create(node: NodeControl, request: _Request) -> _Answer:
    try:
        wanted = SessionRequest.model_validate_json(await request.body())
    except ValidationError as error:
        raise ControlError(400, "bad_request", "Not a session request", _first(error)) from error
    return _model(await node.create_session(wanted), 201)


async def _end(node: NodeControl, request: _Request) -> _Answer:
    await node.end_session(request.of, request.query("reason", "ended by the stream manager"))
    return _Answer(204)


async def _patch(node: NodeControl, request: _Request) -> _Answer:
    fragment = (await request.body()).decode("utf-8", "replace")
    restarted = await node.patch(request.of, fragment, request.header(b"if-match"))
    return _Answer(204) if restarted is None else _model(restarted)


async def _inspect(node: NodeControl, request: _Request) -> _Answer:
    return _model(await node.inspect(request.of))


async def _end_channel(node: NodeControl, request: _Request) -> _Answer:
    await node.end_channel(request.of, await request.reason("the stream has ended"))
    return _Answer(204)


async def _resubscribe(node: NodeControl, request: _Request) -> _Answer:
    await node.resubscribe(request.of, await request.reason("told to"))
    return _Answer(204)


async def _health(node: NodeControl, request: _Request) -> _Answer:
    return _Answer(200, orjson.dumps(node.health()))


async def _metrics(node: NodeControl, request: _Request) -> _Answer:
    return _Answer(200, await node.metrics(), CONTENT_TYPE)


async def _terminate(node: NodeControl, request: _Request) -> _Answer:
    node.terminate(await request.reason("the stream manager says so"))
    return _Answer(202)


#: by the segments of the path, where a star is any one of them, then by method
_ROUTES: Final[dict[tuple[str, ...], dict[str, Handler]]] = {
    ("v1", "sessions"): {"POST": _create},
    ("v1", "sessions", "*"): {"DELETE": _end, "PATCH": _patch, "GET": _inspect},
    ("v1", "channels", "*", "end"): {"POST": _end_channel},
    ("v1", "channels", "*", "resubscribe"): {"POST": _resubscribe},
    ("v1", "health"): {"GET": _health},
    ("v1", "terminate"): {"POST": _terminate},
    ("metrics",): {"GET": _metrics},
}


def application(node: NodeControl) -> Application:
    """The ASGI application (HTTP alone) of this node's control endpoint."""

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            answer = await _serve(node, scope, receive)
        except ControlError as error:
            answer = _problem(error.problem)
        headers = list(answer.headers)
        if answer.body:
            headers.append((b"content-type", answer.content_type.encode()))
        if answer.status != HTTPStatus.NO_CONTENT:  # RFC 9110 section 8.6
            headers.append((b"content-length", b"%d" % len(answer.body)))
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body})

    return serve


async def _serve(node: NodeControl, scope: Scope, receive: Receive) -> _Answer:
    """Raises ControlError."""
    handlers, of = _find(scope["path"])
    handler = handlers.get(scope["method"])
    request = _Request(scope, receive, of)
    if handler is not _metrics or not node.may_read_metrics(request.bearer):
        _authorise(request, node.control_secret)
    if handler is None:
        raise ControlError(405, "method_not_allowed", "Not done by that method", ", ".join(handlers))
    return await handler(node, request)


def _find(path: str) -> tuple[dict[str, Handler], str]:
    """The handlers of a path by their methods, and what stands for its star. Raises ControlError."""
    segments = path.split("/")[1:]
    of = ""
    if len(segments) > 2:
        of, segments[2] = segments[2], "*"
    handlers = _ROUTES.get(tuple(segments))
    if handlers is None or (len(segments) > 2 and not of):
        raise ControlError(404, "not_found", "There is nothing here", path)
    return handlers, of


def _model(model: BaseModel, status: int = 200) -> _Answer:
    return _Answer(status, model.model_dump_json().encode())


def _problem(problem: Problem) -> _Answer:
    headers = ((b"retry-after", b"1"),) if problem.status == HTTPStatus.SERVICE_UNAVAILABLE else ()
    return _Answer(problem.status, problem.model_dump_json().encode(), "application/problem+json", headers)


def _authorise(request: _Request, secret: str | None) -> None:
    if secret is None:
        raise ControlError(503, "not_enrolled", "The node has not enrolled yet", "Try again in a moment.")
    if not hmac.compare_digest(request.bearer.encode(), secret.encode()):
        raise ControlError(401, "bad_credential", "The bearer token is missing or wrong")


def _first(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
