"""Whether the manager is there, and which one it is. Open to everybody; says nothing worth knowing."""

from fastapi import APIRouter

from controlplane.http.context import Here
from controlplane.wire.api import Health

routes = APIRouter(tags=["health"])


@routes.get("/health")
async def health(here: Here) -> Health:
    return Health(
        status="ok",
        version=here.views.version,
        started_at=here.views.started_at,
        stage=here.stage,
        stage_id=here.stage_id,
    )
