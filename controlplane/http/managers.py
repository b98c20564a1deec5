"""Which stream managers there are, for who wants to know where to go when this one does not answer."""

from fastapi import APIRouter

from controlplane.http.auth import Operator
from controlplane.http.context import Here
from controlplane.http.problems import documented
from controlplane.wire.api import ManagersView

routes = APIRouter(tags=["health"])


@routes.get("/managers", responses=documented(401))
async def managers(here: Here, _: Operator) -> ManagersView:
    """Where this stream manager is reached, and all that live. One that has this call takes Idempotency-Key:
    one of an earlier version would do again what is sent again."""
    return ManagersView(api=here.views.addresses.api, managers=here.views.managers())
