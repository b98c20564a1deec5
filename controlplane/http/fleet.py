"""Adding, draining and taking back nodes; the groups and their policies; tokens for nodes started by hand."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from controlplane.http.auth import Operator
from controlplane.http.context import Here
from controlplane.http.problems import documented
from controlplane.http.repeating import Repeatable
from controlplane.wire.api import (
    DrainRequest,
    DrainView,
    EnrolmentRequest,
    EnrolmentView,
    FleetAdd,
    GroupView,
)
from controlplane.wire.fleet import (
    DecisionView,
    Evaluation,
    Policy,
    PolicyView,
    Question,
    Span,
    WhatIf,
    WhatIfView,
)
from controlplane.wire.history import LAST_AT, HistoryView

routes = APIRouter(tags=["fleet"], route_class=Repeatable)
questions = APIRouter(tags=["fleet"])


@routes.get("/groups", responses=documented(401))
async def groups(here: Here, _: Operator) -> list[GroupView]:
    """All node groups: what is wanted and what is there."""
    return here.views.groups()


@routes.get("/groups/{id}/policy", responses=documented(401, 404, 422))
async def policy(id: str, here: Here, _: Operator, usual: bool = False) -> PolicyView:
    """When the group grows and shrinks. A group is named by its id (edge@local), or its role where there is
    only one of it. With `usual` a group that has no policy answers what one begins with."""
    return here.scaling.policy(id, usual=usual)


@routes.patch("/groups/{id}/policy", responses=documented(401, 404, 409, 413, 422, 503))
async def set_policy(
    id: str, changes: Policy, here: Here, operator: Operator, check: bool = False
) -> PolicyView:
    """Change what is said of it and leave the rest; the first time, the rest is as usual. A policy with a
    fault is refused whole, and every fault is named with its place. With `check` nothing is changed, and the
    answer is the policy that it would be."""
    if check:
        return here.scaling.try_policy(id, changes)
    return await here.scaling.set_policy(id, changes, operator)


@routes.delete("/groups/{id}/policy", status_code=204, responses=documented(401, 404, 422, 503))
async def clear_policy(id: str, here: Here, operator: Operator) -> Response:
    """From now on its nodes are added and ended by hand."""
    await here.scaling.clear_policy(id, operator)
    return Response(status_code=204)


@questions.post("/groups/{id}/evaluate", responses=documented(401, 404, 413, 422))
async def evaluate(id: str, question: Question, here: Here, _: Operator) -> Evaluation:
    """What the policy would do now, or would do with the figures given. Changes nothing."""
    return here.scaling.evaluate(id, question)


@questions.post("/groups/{id}/whatif", responses=documented(401, 404, 413, 422, 429, 503))
async def what_if(id: str, question: WhatIf, here: Here, _: Operator) -> WhatIfView:
    """How the group's policy, and one that is changed, would carry a crowd: one that is invented, or the
    recorded load. Changes nothing."""
    return await here.rehearsing.what_if(id, question, here.books.clock.now())


@routes.get("/groups/{id}/history", responses=documented(401, 404, 422, 429, 503), response_model=HistoryView)
async def history(
    id: str,
    here: Here,
    _: Operator,
    last_s: Annotated[float | None, Query(gt=0, le=7 * 86_400)] = None,
    start: Annotated[float | None, Query(ge=0, le=LAST_AT)] = None,
    end: Annotated[float | None, Query(ge=0, le=LAST_AT)] = None,
) -> Response:
    """The recorded load of the group: of the last so many seconds, or from one moment to another (Unix time).
    What of a line has its usual value is left out."""
    span = Span(last_s=last_s, start=start, end=end)
    said = await here.rehearsing.history(id, span, here.books.clock.now())
    return Response(said, media_type="application/json")


@routes.get("/decisions", responses=documented(401, 404, 422, 503))
async def decisions(
    here: Here,
    _: Operator,
    group: Annotated[str | None, Query(max_length=128)] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> list[DecisionView]:
    """What policies did, or wanted and were held back from, newest first."""
    return await here.scaling.decisions(group, limit)


@routes.post("/fleet", responses=documented(401, 404, 409, 413, 422, 503))
async def add(request: FleetAdd, here: Here, operator: Operator) -> DrainView:
    """One more node of a role. Refused (409) where the stage's budget is not there for it (over_budget), or
    it is beyond the max or the cap of the group's policy (over_policy), and the field of that name does not
    say that this is known."""
    return await here.fleet.add(
        request.role,
        request.region,
        operator,
        over_budget=request.over_budget,
        over_policy=request.over_policy,
    )


@routes.post("/nodes/{id}/drain", responses=documented(401, 404, 409, 413, 422, 503))
async def drain(id: str, here: Here, operator: Operator, request: DrainRequest | None = None) -> DrainView:
    """No new viewers, and those it has are moved; it ends when empty or at its deadline. Again with a
    deadline: moves it. The last edge of what is on air, and its last origin, is drained only where
    that is named (409, last_edge, last_origin)."""
    wanted = request or DrainRequest()
    return await here.fleet.drain(id, wanted.deadline_s, operator, named=wanted.channels)


@routes.delete("/nodes/{id}/drain", responses=documented(401, 404, 409, 422, 503))
async def undrain(id: str, here: Here, operator: Operator) -> DrainView:
    """Take a drain back."""
    return await here.fleet.undrain(id, operator)


@routes.post("/enrolments", status_code=201, responses=documented(401, 404, 413, 422, 503))
async def enrolment(request: EnrolmentRequest, here: Here, operator: Operator) -> EnrolmentView:
    """A one-use token for a node that is started by hand (showcaller node). It is shown this once."""
    return await here.fleet.invite(request.role, request.ttl_s, operator)
