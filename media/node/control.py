"""The node's control endpoint, where the stream manager makes and ends sessions.

Served over TLS with a certificate of the node's own, which the manager has pinned (trust.py). Who asks shows
the secret of the enrolment as bearer. Metrics may also be read, and nothing else done, with a token that the
manager has for that (docs/decisions/0017); only its SHA-256 is known here.
"""

import hmac
import json
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, Protocol, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from controlplane.wire.base import Problem
from controlplane.wire.inside import SessionInside
from controlplane.wire.nodes import SessionAnswer, SessionPatch, SessionRequest, SessionsEnd, SessionsTold
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

    def told(self) -> SessionsTold:
        """The sessions, as they stood in the last report that told of them."""

    async def create_session(self, request: SessionRequest) -> SessionAnswer: ...

    async def end_sessions(self, sessions: list[str], reason: str) -> None:
        """One that is not here counts as ended."""

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


def _model(model: BaseModel, status: int = 200) -> Response:
    return Response(model.model_dump_json(), status, media_type="application/json")


def _problem(problem: Problem) -> Response:
    headers = {"Retry-After": "1"} if problem.status == 503 else None
    return JSONResponse(
        problem.model_dump(), problem.status, headers=headers, media_type="application/problem+json"
    )


Handler = Callable[[Request], Awaitable[Response]]


def application(node: NodeControl) -> Starlette:
    def guarded(handler: Handler) -> Handler:
        async def wrapped(request: Request) -> Response:
            try:
                _authorise(request, node.control_secret)
                return await handler(request)
            except ControlError as error:
                return _problem(error.problem)

        return wrapped

    async def sessions(request: Request) -> Response:
        """One route, so that Allow names all it does: told of, or one more is made."""
        if request.method != "POST":
            return _model(node.told())
        return _model(await node.create_session(await _read(SessionRequest, request)), 201)

    async def end(request: Request) -> Response:
        wanted = await _read(SessionsEnd, request)
        await node.end_sessions(wanted.ids, wanted.reason)
        return Response(status_code=204)

    async def patch(request: Request) -> Response:
        fragment = (await _body(request)).decode("utf-8", "replace")
        restarted = await node.patch(request.path_params["id"], fragment, request.headers.get("if-match"))
        return Response(status_code=204) if restarted is None else _model(restarted)

    async def inspect(request: Request) -> Response:
        return _model(await node.inspect(request.path_params["id"]))

    async def end_channel(request: Request) -> Response:
        await node.end_channel(request.path_params["channel"], await _reason(request, "the stream has ended"))
        return Response(status_code=204)

    async def resubscribe(request: Request) -> Response:
        await node.resubscribe(request.path_params["channel"], await _reason(request, "told to"))
        return Response(status_code=204)

    async def health(request: Request) -> Response:
        return JSONResponse(node.health())

    async def metrics(request: Request) -> Response:
        if not node.may_read_metrics(_bearer(request)):
            try:
                _authorise(request, node.control_secret)
            except ControlError as error:
                return _problem(error.problem)
        return Response(await node.metrics(), media_type=None, headers={"Content-Type": CONTENT_TYPE})

    async def lost(request: Request, error: Exception) -> Response:
        """No such path, or not by that method."""
        assert isinstance(error, HTTPException)
        code = "not_found" if error.status_code == HTTPStatus.NOT_FOUND else "method_not_allowed"
        answer = _problem(
            Problem(status=error.status_code, code=code, title=error.detail, detail=request.url.path)
        )
        answer.headers.update(error.headers or {})  # Allow: RFC 9110 section 15.5.6
        return answer

    async def terminate(request: Request) -> Response:
        node.terminate(await _reason(request, "the stream manager says so"))
        return Response(status_code=202)

    app = Starlette(
        routes=[
            Route("/v1/sessions", guarded(sessions), methods=["GET", "POST"]),
            Route("/v1/sessions/end", guarded(end), methods=["POST"]),
            Route("/v1/sessions/{id}", guarded(patch), methods=["PATCH"]),
            Route("/v1/sessions/{id}", guarded(inspect), methods=["GET"]),
            Route("/v1/channels/{channel}/end", guarded(end_channel), methods=["POST"]),
            Route("/v1/channels/{channel}/resubscribe", guarded(resubscribe), methods=["POST"]),
            Route("/v1/health", guarded(health), methods=["GET"]),
            Route("/metrics", metrics, methods=["GET"]),
            Route("/v1/terminate", guarded(terminate), methods=["POST"]),
        ],
        exception_handlers={HTTPException: lost},
    )
    app.router.redirect_slashes = False  # a path that is nearly one of these is none
    return app


def _authorise(request: Request, secret: str | None) -> None:
    if secret is None:
        raise ControlError(503, "not_enrolled", "The node has not enrolled yet", "Try again in a moment.")
    if not hmac.compare_digest(_bearer(request).encode(), secret.encode()):
        raise ControlError(401, "bad_credential", "The bearer token is missing or wrong")


def _bearer(request: Request) -> str:
    """The bearer token of a request, or nothing."""
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    return given if scheme.lower() == "bearer" else ""


Wanted = TypeVar("Wanted", bound=BaseModel)


async def _read(kind: type[Wanted], request: Request) -> Wanted:
    """What the body asks for."""
    try:
        return kind.model_validate_json(await _body(request))
    except ValidationError as error:
        raise ControlError(400, "bad_request", f"Not a {kind.__name__}", _first(error)) from error


async def _body(request: Request) -> bytes:
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > MAX_BODY:
            raise ControlError(413, "too_large", "The request is too large", f"At most {MAX_BODY} bytes.")
        chunks.append(chunk)
    return b"".join(chunks)


async def _reason(request: Request, default: str) -> str:
    """A JSON body {"reason": ...} or none."""
    try:
        value = json.loads(await _body(request) or b"{}")
    except (ValueError, RecursionError):  # the latter of ten thousand brackets
        return default
    reason = value.get("reason") if isinstance(value, dict) else None
    return reason if isinstance(reason, str) and reason else default


def _first(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
