"""Server-sent events for a page that waits: whether a channel is on air and how many watch it."""

from fastapi import APIRouter
from fastapi.responses import Response

from controlplane.http import events
from controlplane.http.context import Here
from controlplane.http.problems import documented
from controlplane.http.streams import Channel

routes = APIRouter(tags=["watch"])


@routes.get("/watch/{channel}/events", response_class=Response, responses=events.OPENAPI | documented(422))
async def watch_events(channel: Channel, here: Here) -> Response:
    """Event `state` with {"on_air": bool, "viewers": n, "video_codec"}: now, and whenever it changes."""
    return events.response(here.pages.of_channel(channel))
