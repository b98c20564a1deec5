"""No request is handed to a thread: FastAPI does that with a plain function, and a join would pay for it."""

import importlib
import inspect
import pkgutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fastapi import APIRouter
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute, APIWebSocketRoute

import controlplane.http
from tests.controlplane.stage import AS_OPERATOR, running


def workers() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "AnyIO worker thread"}


def calls(dependant: Dependant) -> Iterator[Any]:
    """A route's own function, and those it depends on."""
    yield dependant.call
    for needed in dependant.dependencies:
        yield from calls(needed)


def routes() -> Iterator[APIRoute | APIWebSocketRoute]:
    for module in pkgutil.iter_modules(controlplane.http.__path__, "controlplane.http."):
        for value in vars(importlib.import_module(module.name)).values():
            if isinstance(value, APIRouter):
                yield from (it for it in value.routes if isinstance(it, APIRoute | APIWebSocketRoute))


def test_every_route_and_what_it_depends_on_is_a_coroutine() -> None:
    found = list(routes())
    assert {"/whep/{channel}", "/live", "/nodes/{id}/report"} <= {route.path for route in found}
    for route in found:
        for call in calls(route.dependant):
            function = call if inspect.isroutine(call) else call.__call__
            assert inspect.iscoroutinefunction(function), f"{route.path}: {call}"


async def test_no_request_is_handed_to_a_thread(tmp_path: Path) -> None:
    before = workers()  # of other tests of this process
    async with running(tmp_path) as show:
        await show.until({"origin-1": "in_service", "edge-1": "in_service"})
        await show.on_air()
        seen = await show.whep()
        assert seen.status_code == 201
        session = seen.headers["Location"]
        restart = {"Content-Type": "application/trickle-ice-sdpfrag", "If-Match": "*"}
        asked = [
            (await show.http.patch(session, headers=restart, content="a=end-of-candidates"), 204),
            (await show.http.delete(session), 200),
            (await show.http.get("/watch/main"), 200),
            (await show.http.get("/api/v1/health"), 200),
            *[
                (await show.http.get(f"/api/v1/{what}", headers=AS_OPERATOR), 200)
                for what in ("nodes", "streams", "journal", "groups", "snapshot")
            ],
        ]
        assert [answer.status_code for answer, _ in asked] == [status for _, status in asked]
        assert not workers() - before
