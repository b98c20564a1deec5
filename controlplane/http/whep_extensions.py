"""What a WHEP session has beside the session itself: its events, and the latency its page measures.

    GET               /whep/{channel}/{resource}/events    server-sent events: state, move, ended
    POST              /whep/{channel}/{resource}/events    the WHEP extension for them: makes an event stream
    GET, DELETE       /whep/{channel}/{resource}/events/{stream}
    POST              /whep/{channel}/{resource}/latency   what the page measured; answered with the interval

Both are named to the player in Link headers (draft-ietf-wish-whep, protocol extensions). The extension's own
way is to POST and then read what Location names. Players in the field read the link itself, and so does our
page, whose connections to one server are few: so that is served as well.
"""

import json
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from fastapi.responses import Response

from controlplane.errors import BadRequest
from controlplane.http import events
from controlplane.http.bodies import LOCATION, described, read_text
from controlplane.http.context import Here
from controlplane.http.cors import CORS, preflight
from controlplane.http.problems import documented
from controlplane.http.signaling import ENDED, Resource
from controlplane.http.streams import Channel
from controlplane.services.event_streams import NAMES
from controlplane.wire.api import ViewerLatency, ViewerOrder

routes = APIRouter(tags=["WHEP"])

JSON = "application/json"
NAMES_LIMIT = 4 * 1024

EventStream = Annotated[str, Path(max_length=64)]

_STREAM_MADE: dict[int | str, dict[str, Any]] = {
    201: {"description": "The event stream; its address is in Location", "headers": LOCATION}
}
_EVENT_NAMES = {"type": "array", "items": {"type": "string", "enum": list(NAMES)}}


@routes.options("/whep/{channel}/{resource}/events", response_class=Response)
async def whep_events_options(channel: str, resource: str) -> Response:
    """What can be done with a session's events."""
    return Response(headers=preflight("GET", "POST") | {"Accept-Post": JSON})


@routes.get(
    "/whep/{channel}/{resource}/events",
    response_class=Response,
    responses=events.OPENAPI | documented(404, 422, 503),
)
async def whep_events(channel: Channel, resource: Resource, here: Here) -> Response:
    """What happens to the session: `state`, `move` (make a new session), `ended`."""
    session = await here.signaling.find_viewer(channel, resource)
    return events.response(here.pages.of_session(session), CORS)


@routes.post(
    "/whep/{channel}/{resource}/events",
    status_code=201,
    response_class=Response,
    responses=_STREAM_MADE | documented(400, 404, 409, 413, 415, 422, 503),
    openapi_extra=described(JSON, _EVENT_NAMES, required=False),
)
async def whep_make_events(channel: Channel, resource: Resource, request: Request, here: Here) -> Response:
    """Make an event stream of the named events (without a body: of all)."""
    names = await _event_names(request)
    session = await here.signaling.find_viewer(channel, resource)
    stream = here.pages.make_stream(session, names)
    location = f"/whep/{channel}/{resource}/events/{stream}"
    return Response(status_code=201, headers=CORS | {"Location": location, "Cache-Control": "no-store"})


async def _event_names(request: Request) -> list[str] | None:
    """The JSON array of a request; None when it has no body. Raises BadRequest."""
    sent = request.headers
    if (
        "content-type" not in sent
        and "transfer-encoding" not in sent
        and not int(sent.get("content-length", "0"))
    ):
        return None
    text = await read_text(request, JSON, NAMES_LIMIT, wanted="a JSON array of event names")
    try:
        names = json.loads(text)
    except (ValueError, RecursionError):  # the latter of a thousand brackets
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise BadRequest(
            'The body is to be a JSON array of event names, as in ["active", "inactive"].',
            code="bad_event_names",
            title="This is no list of events",
        )
    return names


@routes.options("/whep/{channel}/{resource}/events/{stream}", response_class=Response)
async def whep_event_stream_options(channel: str, resource: str, stream: str) -> Response:
    """What can be done with an event stream."""
    return Response(headers=preflight("GET", "DELETE"))


@routes.get(
    "/whep/{channel}/{resource}/events/{stream}",
    response_class=Response,
    responses=events.OPENAPI | documented(404, 422, 503),
)
async def whep_event_stream(
    channel: Channel, resource: Resource, stream: EventStream, here: Here
) -> Response:
    """What has happened since it was read last, and what happens."""
    session = await here.signaling.find_viewer(channel, resource)
    here.pages.event_streams.find(session, stream)
    return events.response(here.pages.event_streams.read(session, stream), CORS)


@routes.delete(
    "/whep/{channel}/{resource}/events/{stream}",
    response_class=Response,
    responses=ENDED | documented(404, 422, 503),
)
async def whep_end_event_stream(
    channel: Channel, resource: Resource, stream: EventStream, here: Here
) -> Response:
    """End an event stream; what nobody has read of it is forgotten."""
    session = await here.signaling.find_viewer(channel, resource)
    here.pages.event_streams.drop(session, stream)
    return Response(status_code=200, headers=CORS)


@routes.options("/whep/{channel}/{resource}/latency", response_class=Response)
async def whep_latency_options(channel: str, resource: str) -> Response:
    """What can be done with what a page measures."""
    return Response(headers=preflight("POST") | {"Accept-Post": JSON})


@routes.post("/whep/{channel}/{resource}/latency", responses=documented(404, 413, 422, 503))
async def whep_latency(
    channel: Channel, resource: Resource, post: ViewerLatency, here: Here, response: Response
) -> ViewerOrder:
    """What the page measured, glass to glass; the answer says when to post again."""
    response.headers.update(CORS)
    session = await here.signaling.find_viewer(channel, resource)
    return here.streams.viewer_latency(session, post)
