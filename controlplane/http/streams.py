"""What is on air; stopping it; what a publisher reports; publish tokens."""

from typing import Annotated

from fastapi import APIRouter, Path

from controlplane.http.auth import Operator, PublishToken
from controlplane.http.context import Here
from controlplane.http.problems import documented
from controlplane.http.repeating import Repeatable
from controlplane.wire.api import (
    CHANNEL_PATTERN,
    StopView,
    StreamDetail,
    TokenRequest,
    TokenRevoke,
    TokenView,
)
from controlplane.wire.publishing import PublisherOrder, PublisherReport

routes = APIRouter(tags=["streams"], route_class=Repeatable)
publisher_routes = APIRouter(tags=["streams"])

Channel = Annotated[str, Path(pattern=CHANNEL_PATTERN)]


@routes.get("/streams", responses=documented(401))
async def streams(here: Here, _: Operator) -> list[StreamDetail]:
    """Every channel that is on air."""
    return here.views.streams()


@routes.delete("/streams/{channel}", responses=documented(401, 404, 422, 503))
async def stop(channel: Channel, here: Here, operator: Operator) -> StopView:
    """End a broadcast wherever it was started, and revoke the token it was published with."""
    return await here.streams.stop(channel, operator)


@publisher_routes.post("/channels/{channel}/publisher", responses=documented(401, 403, 413, 422, 503))
async def publisher(
    channel: Channel, report: PublisherReport, here: Here, token: PublishToken
) -> PublisherOrder:
    """A publisher's report; the answer tells it to go on, to stop, or to publish again."""
    claims = here.tokens.read(token, channel, accept_expired=True)
    return await here.streams.publisher_report(claims, report)


@routes.post("/tokens", responses=documented(401, 413, 422, 503))
async def create_token(request: TokenRequest, here: Here, operator: Operator) -> TokenView:
    """An address and a token that publish one channel, for OBS or any other WHIP client."""
    whip = f"{here.views.addresses.api}/whip/{request.channel}"
    return await here.streams.permit(request.channel, request.ttl_s, operator, whip)


@routes.post("/tokens/revoke", status_code=204, responses=documented(401, 403, 413, 422, 503))
async def revoke_token(request: TokenRevoke, here: Here, operator: Operator) -> None:
    """Take a publish token back: who shows it from now on is refused."""
    await here.streams.revoke(request.token, request.channel, operator, request.why)
