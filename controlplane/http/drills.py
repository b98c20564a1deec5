"""Rehearsing deaths: what a drill would strike, to begin one, and what came of it."""

from typing import Annotated

from fastapi import APIRouter, Path, Query

from controlplane.http.auth import Operator
from controlplane.http.context import Here
from controlplane.http.journal import LAST
from controlplane.http.problems import documented
from controlplane.http.repeating import Repeatable
from controlplane.wire.api import JournalEntry
from controlplane.wire.drills import Drill, DrillKind, DrillRequest, Outcome

routes = APIRouter(prefix="/drills", tags=["fleet"], route_class=Repeatable)


@routes.get("/{kind}", responses=documented(401, 404, 409, 422))
async def look(
    kind: DrillKind,
    here: Here,
    _: Operator,
    node: Annotated[str | None, Query(max_length=64)] = None,
    force: bool = False,
) -> Drill:
    """What a drill would strike, or why it would be refused. Changes nothing."""
    return await here.drills.look(DrillRequest(kind=kind, node=node, force=force))


@routes.post("", responses=documented(401, 404, 409, 413, 422, 503))
async def begin(request: DrillRequest, here: Here, operator: Operator) -> Drill:
    """Kill a node, as a crash would, when that is in the journal. The stream manager is not killed by this:
    the answer says which process it is."""
    return await here.drills.begin(request, operator)


@routes.post("/{id}/outcome", responses=documented(401, 404, 413, 422, 503))
async def finish(
    id: Annotated[int, Path(ge=1, le=LAST)], outcome: Outcome, here: Here, operator: Operator
) -> JournalEntry:
    """What was measured of a drill's recovery, for the journal: once. Asked again, it is the same entry."""
    return await here.drills.finish(id, outcome, operator)
