"""The two requests that come in crowds, by a shorter way: a viewer's offer and a node's report.

FastAPI looks for a route among a hundred, resolves what it depends on, and reads a body into Python before it
is read into a message: for most requests that is nothing, for these it was a good part of what a join costs a
stream manager (docs/decisions/0036). Here is only what finds them and reads what they say. Both are served by
the functions of their FastAPI routes, which document them and take whatever is said otherwise than everybody
says it: another query, a slash at the end.
"""

import re
from collections.abc import Awaitable, Callable

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.routing import BaseRoute, Match
from starlette.types import Receive, Scope, Send

from controlplane.http import nodes, signaling
from controlplane.http.auth import bearer
from controlplane.http.context import manager_of
from controlplane.wire.api import CHANNEL_PATTERN
from controlplane.wire.nodes import PAGE_PATTERN, PARTY_PATTERN, PARTY_SIZE_MOST, NodeReport

_CHANNEL, _PARTY, _PAGE = (it.strip("^$") for it in (CHANNEL_PATTERN, PARTY_PATTERN, PAGE_PATTERN))
_SIZE = "|".join(map(str, range(1, PARTY_SIZE_MOST + 1)))
_WHEP = re.compile(
    rf"/whep/(?P<channel>{_CHANNEL})\?(?:party=(?P<party>{_PARTY})(?:&size=(?P<size>{_SIZE}))?)?"
    rf"(?:(?:(?<=\?)|&)page=(?P<page>{_PAGE}))?"
)
_REPORT = re.compile(r"/api/v1/nodes/(?P<id>[^/?]+)/report\?")


class _Quick(BaseRoute):
    """A POST whose path and query are of this pattern."""

    def __init__(
        self, path: str, pattern: re.Pattern[str], serve: Callable[..., Awaitable[Response]]
    ) -> None:
        self.path = path  # as the FastAPI route has it
        self._pattern = pattern
        self._serve = serve

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if scope["type"] == "http" and scope["method"] == "POST":
            asked = f"{scope['path']}?{scope.get('query_string', b'').decode('latin1')}"
            if found := self._pattern.fullmatch(asked):
                return Match.FULL, {"route": self, "path_params": found.groupdict()}
        return Match.NONE, {}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self._serve(Request(scope, receive), **scope["path_params"])
        await response(scope, receive, send)


async def _whep(
    request: Request, channel: str, party: str | None, size: str | None, page: str | None
) -> Response:
    wanted = None if size is None else int(size)
    return await signaling.whep(channel, request, manager_of(request), party=party, size=wanted, page=page)


async def _report(request: Request, id: str) -> Response:
    here = manager_of(request)
    node = await here.enrolment.authenticate(bearer(request), id)
    try:
        said = NodeReport.model_validate_json(await request.body())
    except ValidationError as error:
        raise RequestValidationError(error.errors(include_url=False)) from error
    answer = await nodes.report(said, node, here)
    return Response(answer.model_dump_json(), media_type="application/json")


def install(app: FastAPI) -> None:
    """They are looked for before all others."""
    app.router.routes[:0] = [
        _Quick("/whep/{channel}", _WHEP, _whep),
        _Quick("/api/v1/nodes/{id}/report", _REPORT, _report),
    ]
