"""Errors as answers: application/problem+json (RFC 9457), one shape for all of them."""

from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.routing import Match

from controlplane.domain.machine import IllegalMove
from controlplane.errors import ControlError, Forbidden, Unauthenticated
from controlplane.http import cors
from controlplane.ports.store import StoreAway, StoreBusy, StoreFull, StoreUnknown
from controlplane.wire.base import Problem

log = structlog.get_logger(__name__)

MEDIA_TYPE = "application/problem+json"

_TITLES = {
    400: ("bad_request", "The request cannot be understood"),
    404: ("not_found", "There is nothing at this address"),
    405: ("method_not_allowed", "This address does not know that method"),
    413: ("too_large", "The request is too large"),
    415: ("unsupported_media_type", "This content type is not taken here"),
}


def _sentence(error: Exception) -> str:
    text = str(error)
    return text[:1].upper() + text[1:]


def answer(problem: Problem, path: str, headers: dict[str, str] | None = None) -> Response:
    """The answer to a request at `path`."""
    return Response(
        problem.model_dump_json(exclude_none=True),
        status_code=problem.status,
        headers=cors.for_path(path) | (headers or {}),
        media_type=MEDIA_TYPE,
    )


def of_error(error: ControlError, path: str) -> Response:
    headers: dict[str, str] = {}
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(error.retry_after_s)
    if isinstance(error, Unauthenticated):
        headers["WWW-Authenticate"] = "Bearer"
    elif isinstance(error, Forbidden):
        headers["WWW-Authenticate"] = 'Bearer error="insufficient_scope"'
    return answer(error.problem(), path, headers)


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For OpenAPI: which problems a route answers with. Who may find the database busy may find it full."""
    full = {507} if 503 in statuses else set()
    return {
        status: {"description": _WORDS[status], "content": {MEDIA_TYPE: {"schema": _SCHEMA}}}
        for status in sorted({*statuses} | full)
    }


_WORDS = {
    400: "The request cannot be understood",
    401: "No good bearer token",
    403: "The token is for something else",
    404: "There is no such thing",
    405: "Not allowed here",
    406: "Nothing can be agreed on: no common codec, or keys that are not taken",
    409: "Not possible in its present state",
    412: "The entity tag is another one",
    413: "Too large",
    415: "This content type is not taken",
    422: "The request is not of the documented shape",
    428: "An entity tag is needed",
    429: "Too many at once from this address; see Retry-After",
    503: "Not possible just now; see Retry-After",
    507: "No room to write it down",
}
_SCHEMA = {"$ref": "#/components/schemas/Problem"}


def _methods_at(app: FastAPI, request: Request) -> list[str]:
    """What an address does know (RFC 9110, 15.5.6); the router itself names only its first route."""
    scope = {key: request.scope[key] for key in ("type", "path", "root_path", "headers")}
    return [
        method
        for method in ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")
        if any(route.matches(scope | {"method": method})[0] is Match.FULL for route in app.router.routes)
    ]


def install(app: FastAPI) -> None:
    @app.exception_handler(ControlError)
    async def _control(request: Request, error: ControlError) -> Response:
        return of_error(error, request.url.path)

    @app.exception_handler(IllegalMove)
    async def _illegal(request: Request, error: IllegalMove) -> Response:
        problem = Problem(
            code="conflict", title="Not possible in its present state", detail=str(error), status=409
        )
        return answer(problem, request.url.path)

    @app.exception_handler(StoreFull)
    async def _full(request: Request, error: StoreFull) -> Response:
        problem = Problem(
            code="database_full",
            title="The database cannot be written",
            detail=f"Nothing was changed ({error}). Free some disk space, and try again.",
            status=507,
        )
        return answer(problem, request.url.path, {"Retry-After": "10"})

    @app.exception_handler(StoreAway)
    async def _away(request: Request, error: StoreAway) -> Response:
        problem = Problem(
            code="database_away",
            title="The database does not answer",
            detail=f"{_sentence(error)}. See that it runs, and try again.",
            status=503,
        )
        return answer(problem, request.url.path, {"Retry-After": "5"})

    @app.exception_handler(StoreUnknown)
    async def _unknown(request: Request, error: StoreUnknown) -> Response:
        problem = Problem(
            code="outcome_unknown",
            title="The database does not answer, and what it has kept is not known",
            detail=f"{_sentence(error)}. Send it again with the same Idempotency-Key; where it had none, "
            "look before you ask for it again.",
            status=503,
        )
        return answer(problem, request.url.path, {"Retry-After": "5"})

    @app.exception_handler(StoreBusy)
    async def _busy(request: Request, error: StoreBusy) -> Response:
        problem = Problem(
            code="database_busy",
            title="The database is held by another program",
            detail="Nothing was changed. Close what has the database open, and try again.",
            status=503,
        )
        return answer(problem, request.url.path, {"Retry-After": "2"})

    @app.exception_handler(RequestValidationError)
    async def _invalid(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"] if part != "body") or "the body"
        problem = Problem(
            code="invalid_request",
            title="The request is not of the documented shape",
            detail=f"{where}: {first['msg']}. /docs describes every request.",
            status=422,
        )
        return answer(problem, request.url.path)

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> Response:
        code, title = _TITLES.get(error.status_code, ("error", str(error.detail)))
        detail = f"{request.method} {request.url.path}"
        problem = Problem(code=code, title=title, detail=detail, status=error.status_code)
        headers = dict(error.headers or {})
        if error.status_code == 405:
            headers["Allow"] = ", ".join(_methods_at(app, request))
        return answer(problem, request.url.path, headers)

    @app.exception_handler(Exception)
    async def _bug(request: Request, error: Exception) -> Response:
        # Starlette raises it again after this answer, so the trace is logged by the server too.
        problem = Problem(
            code="internal_error",
            title="Something went wrong in the stream manager",
            detail="Its log has the details: showcaller logs manager",
            status=500,
        )
        return answer(problem, request.url.path)
