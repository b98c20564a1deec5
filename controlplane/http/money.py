"""What the stage costs."""

from typing import Annotated

from fastapi import APIRouter, Query

from controlplane.errors import BadRequest
from controlplane.http.auth import Operator
from controlplane.http.context import Here
from controlplane.http.problems import documented
from controlplane.wire.history import LAST_AT
from controlplane.wire.money import CostView

LONGEST_S = 366 * 86_400.0

routes = APIRouter(tags=["money"])


@routes.get("/cost", responses=documented(401, 404, 409, 422, 503))
async def cost(
    here: Here,
    _: Operator,
    last_s: Annotated[float | None, Query(gt=0, le=LONGEST_S)] = None,
    start: Annotated[float | None, Query(ge=0, le=LAST_AT)] = None,
    end: Annotated[float | None, Query(ge=0, le=LAST_AT)] = None,
    event: Annotated[str | None, Query(max_length=200)] = None,
) -> CostView:
    """What nodes and egress cost now, today, this month and by its end; and in the last so many seconds, or
    from one moment to another (Unix time), in whole hours; or of an event, which is named as elsewhere."""
    if event is not None:
        found = await here.events.find(event)
        crowd = (await here.events.one(found.name)).crowd
        return await here.money.cost(event=here.scaling.planned(found, crowd))
    now = here.books.clock.now()
    if last_s is not None:
        return await here.money.cost((now - last_s, now))
    if start is None and end is None:
        return await here.money.cost()
    if start is None or end is None or not 0 < end - start <= LONGEST_S:
        raise BadRequest(
            "A time has a start, and an end at most 366 days later.", code="invalid_request", status=422
        )
    return await here.money.cost((start, end))
