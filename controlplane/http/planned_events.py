"""Events: what is shown when, and for how many. (Streams of events for pages: events.py.)"""

from typing import Annotated

from fastapi import APIRouter, Path, Query

from controlplane.http.auth import Operator
from controlplane.http.context import Here
from controlplane.http.problems import documented
from controlplane.http.repeating import Repeatable
from controlplane.wire.events import EventCancel, EventChanges, EventRequest, EventView, PreflightView

routes = APIRouter(tags=["events"], route_class=Repeatable)
questions = APIRouter(tags=["events"])

#: Its name (ev-7), its title, or how that begins
Named = Annotated[str, Path(max_length=200)]


@routes.get("/events", responses=documented(401, 422, 503))
async def events(here: Here, _: Operator, past: Annotated[bool, Query()] = False) -> list[EventView]:
    """What is on, what is to come, and what was over in the last day; `past`: everything that is kept."""
    return await here.events.all(past=past)


@routes.post("/events", status_code=201, responses=documented(401, 409, 413, 422, 503))
async def add(asked: EventRequest, here: Here, operator: Operator) -> EventView:
    """Plan an event. One with faults is refused whole, and every fault is named with its place."""
    return await here.events.add(asked, operator)


@routes.get("/events/{id}", responses=documented(401, 404, 409, 422, 503))
async def event(id: Named, here: Here, _: Operator) -> EventView:
    """One event: by its name (ev-7), its title, or how that begins, where that means one alone."""
    return await here.events.one(id)


@routes.patch("/events/{id}", responses=documented(401, 404, 409, 413, 422, 503))
async def edit(id: Named, changes: EventChanges, here: Here, operator: Operator) -> EventView:
    """Change what is said of it and leave the rest. What is over, or was cancelled, stays as it was."""
    return await here.events.edit(id, changes, operator)


@routes.post("/events/{id}/cancel", responses=documented(401, 404, 409, 413, 422, 503))
async def cancel(id: Named, here: Here, operator: Operator, request: EventCancel | None = None) -> EventView:
    """It will not be. Nothing is prestaged for it any more; a broadcast that is on air goes on."""
    return await here.events.cancel(id, (request or EventCancel()).reason, operator)


@questions.post("/events/{id}/preflight", responses=documented(401, 404, 409, 422, 503))
async def preflight(id: Named, here: Here, _: Operator) -> PreflightView:
    """Go or no-go: nodes, publisher, database, budget, and what is not set up, each with its reason and what
    to do. It writes down when it was asked, which is how the database is tried."""
    return await here.preflight.check(id)
