"""Adding, draining and taking back nodes; the groups; tokens for nodes started by hand."""

from datetime import UTC, datetime

from fastapi import APIRouter

from controlplane.http.auth import Operator
from controlplane.http.context import Here
from controlplane.http.problems import documented
from controlplane.wire.api import (
    DrainRequest,
    DrainView,
    EnrolmentRequest,
    EnrolmentView,
    FleetAdd,
    GroupView,
)

routes = APIRouter(tags=["fleet"])


@routes.get("/groups", responses=documented(401))
async def groups(here: Here, _: Operator) -> list[GroupView]:
    """All node groups: what is wanted and what is there."""
    return here.views.groups()


@routes.post("/fleet", responses=documented(401, 404, 409, 413, 422, 503))
async def add(request: FleetAdd, here: Here, operator: Operator) -> DrainView:
    """One more node of a role."""
    return await here.fleet.add(request.role, request.region, operator)


@routes.post("/nodes/{id}/drain", responses=documented(401, 404, 409, 413, 422, 503))
async def drain(id: str, here: Here, operator: Operator, request: DrainRequest | None = None) -> DrainView:
    """No new viewers; it ends when empty or at its deadline. Again with a deadline: moves it."""
    deadline = (request or DrainRequest()).deadline_s
    return await here.fleet.drain(id, deadline, operator)


@routes.delete("/nodes/{id}/drain", responses=documented(401, 404, 409, 422, 503))
async def undrain(id: str, here: Here, operator: Operator) -> DrainView:
    """Take a drain back."""
    return await here.fleet.undrain(id, operator)


@routes.post("/enrolments", status_code=201, responses=documented(401, 404, 413, 422, 503))
async def enrolment(request: EnrolmentRequest, here: Here, operator: Operator) -> EnrolmentView:
    """A one-use token for a node that is started by hand (showcaller node). It is shown this once."""
    node, token = await here.fleet.invite(request.role, request.ttl_s, operator)
    expires = datetime.fromtimestamp(node.enrol_expires, UTC)
    return EnrolmentView(node=node.id, token=token, expires=expires.isoformat(timespec="seconds"))
