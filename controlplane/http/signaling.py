"""WHIP (RFC 9725) and WHEP (draft-ietf-wish-whep): offers in, answers out, proxied to the node.

    OPTIONS, POST     /whip/{channel}              /whep/{channel}
    PATCH, DELETE     /whip/{channel}/{resource}   /whep/{channel}/{resource}
    GET               /whep/{channel}/{resource}/events    server-sent events: state, move, ended
    POST              /whep/{channel}/{resource}/latency   what the page measured; answered with the interval

Publishing needs a publish token; watching is open, and the resource of a session is unguessable. A browser
may call all of it from another origin. A redirect would not let it, so a channel's address is served with a
slash at its end as well. PATCH hands over trickled candidates: it needs the session's entity tag (428
without, 412 with another one); ICE restarts are answered with 422 by the node.
"""

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from fastapi.responses import Response

from controlplane.errors import BadRequest
from controlplane.http import events
from controlplane.http.auth import PublishToken
from controlplane.http.context import Here
from controlplane.http.cors import CORS, PREFLIGHT
from controlplane.http.limits import too_large
from controlplane.http.problems import documented
from controlplane.http.streams import Channel
from controlplane.services.signaling import etag
from controlplane.wire.api import ViewerLatency, ViewerOrder
from controlplane.wire.nodes import SessionAnswer, SessionKind

routes = APIRouter()

SDP = "application/sdp"
FRAGMENT = "application/trickle-ice-sdpfrag"
SDP_LIMIT = 64 * 1024
FRAGMENT_LIMIT = 16 * 1024
EVENTS_REL = "urn:ietf:params:whep:ext:core:server-sent-events"
LATENCY_REL = "urn:showcaller:whep:ext:latency"

Resource = Annotated[str, Path(max_length=128)]  # what is no session is not found


def _sdp_body(media_type: str) -> dict[str, Any]:
    content = {media_type: {"schema": {"type": "string"}}}
    return {"requestBody": {"required": True, "content": content}}


_CREATED: dict[int | str, dict[str, Any]] = {
    201: {
        "description": "The session; its address is in Location",
        "content": {SDP: {"schema": {"type": "string"}}},
    }
}


async def _read(request: Request, media_type: str, limit: int) -> str:
    """The body as text. Raises BadRequest: 415, 413 or 400, each saying what is wanted."""
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if given != media_type:
        raise BadRequest(
            f"Send it as {media_type}" + (f", not {given}." if given else "."),
            code="unsupported_media_type",
            title="This content type is not taken here",
            status=415,
        )
    if int(request.headers.get("content-length", "0")) > limit:
        raise too_large(limit)
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > limit:
            raise too_large(limit)
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise BadRequest("The body is not UTF-8 text.", code="bad_sdp", title="This is no SDP") from error
    if not text.strip():
        raise BadRequest("The body is empty: an SDP offer is wanted.", code="bad_sdp", title="This is no SDP")
    return text


def _created(path: str, answer: SessionAnswer, links: Mapping[str, str]) -> Response:
    headers = CORS | {
        "Location": path,
        "ETag": etag(answer.id),
        "Accept-Patch": FRAGMENT,
        "Cache-Control": "no-store",
    }
    if links:
        headers["Link"] = ", ".join(f"<{path}{end}>; rel={rel}" for end, rel in links.items())
    return Response(answer.answer, status_code=201, headers=headers, media_type=SDP)


def _check_etag(request: Request, resource: str) -> None:
    given = request.headers.get("if-match")
    if given is None:
        raise BadRequest(
            "A PATCH needs the session's entity tag in If-Match; it came with the answer.",
            code="etag_needed",
            title="An entity tag is needed",
            status=428,
        )
    if given.strip() == "*":
        raise BadRequest(
            "ICE restarts are not done here: make a new session instead.",
            code="no_ice_restart",
            title="ICE cannot be restarted",
            status=422,
        )
    if given.strip() != etag(resource):
        raise BadRequest(
            "The entity tag is not that of the session's present ICE session.",
            code="etag_mismatch",
            title="The entity tag is another one",
            status=412,
        )


def _options() -> Response:
    headers = PREFLIGHT | {"Accept-Post": SDP, "Accept-Patch": FRAGMENT}
    return Response(status_code=204, headers=headers)


def _publisher_name(request: Request) -> str:
    agent = request.headers.get("user-agent", "").strip()[:120] or "a WHIP client"
    host = request.client.host if request.client else "?"
    return f"{agent} from {host}"


# WHIP


@routes.options("/whip/{channel}", status_code=204, tags=["WHIP"])
@routes.options("/whip/{channel}/", status_code=204, tags=["WHIP"], include_in_schema=False)
@routes.options("/whip/{channel}/{resource}", status_code=204, tags=["WHIP"], include_in_schema=False)
async def whip_options() -> Response:
    return _options()


@routes.post("/whip/{channel}/", status_code=201, response_class=Response, include_in_schema=False)
@routes.post(
    "/whip/{channel}",
    status_code=201,
    response_class=Response,
    tags=["WHIP"],
    responses=_CREATED | documented(400, 401, 403, 406, 409, 413, 415, 422, 503),
    openapi_extra=_sdp_body(SDP),
)
async def whip(channel: Channel, request: Request, here: Here, token: PublishToken) -> Response:
    """Publish a channel: the body is the SDP offer, the answer's body the SDP answer."""
    claims = await here.tokens.check(token, channel)
    offer = await _read(request, SDP, SDP_LIMIT)
    answer = await here.signaling.publish(claims, offer, _publisher_name(request))
    return _created(f"/whip/{channel}/{answer.id}", answer, {})


@routes.patch(
    "/whip/{channel}/{resource}",
    status_code=204,
    tags=["WHIP"],
    responses=documented(400, 401, 403, 404, 412, 413, 415, 422, 428, 503),
    openapi_extra=_sdp_body(FRAGMENT),
)
async def whip_patch(
    channel: Channel, resource: Resource, request: Request, here: Here, token: PublishToken
) -> Response:
    """Trickle candidates to a publishing session."""
    here.tokens.read(token, channel, accept_expired=True)
    return await _patch(channel, resource, SessionKind.WHIP, request, here)


@routes.delete("/whip/{channel}/{resource}", tags=["WHIP"], responses=documented(401, 403, 404, 422, 503))
async def whip_delete(channel: Channel, resource: Resource, here: Here, token: PublishToken) -> Response:
    """Stop publishing: the stream ends."""
    here.tokens.read(token, channel, accept_expired=True)
    await here.signaling.unpublish(channel, resource)
    return Response(status_code=200, headers=CORS)


# WHEP


@routes.options("/whep/{channel}", status_code=204, tags=["WHEP"])
@routes.options("/whep/{channel}/", status_code=204, tags=["WHEP"], include_in_schema=False)
@routes.options("/whep/{channel}/{resource}", status_code=204, tags=["WHEP"], include_in_schema=False)
@routes.options("/whep/{channel}/{resource}/{more}", status_code=204, tags=["WHEP"], include_in_schema=False)
async def whep_options() -> Response:
    return _options()


@routes.post("/whep/{channel}/", status_code=201, response_class=Response, include_in_schema=False)
@routes.post(
    "/whep/{channel}",
    status_code=201,
    response_class=Response,
    tags=["WHEP"],
    responses=_CREATED | documented(400, 404, 406, 413, 415, 422, 503),
    openapi_extra=_sdp_body(SDP),
)
async def whep(channel: Channel, request: Request, here: Here) -> Response:
    """Watch a channel: the body is the SDP offer, the answer's body the SDP answer."""
    offer = await _read(request, SDP, SDP_LIMIT)
    answer = await here.signaling.view(channel, offer)
    links = {"/events": f'"{EVENTS_REL}"; events="state,move,ended"', "/latency": f'"{LATENCY_REL}"'}
    return _created(f"/whep/{channel}/{answer.id}", answer, links)


@routes.patch(
    "/whep/{channel}/{resource}",
    status_code=204,
    tags=["WHEP"],
    responses=documented(400, 404, 412, 413, 415, 422, 428, 503),
    openapi_extra=_sdp_body(FRAGMENT),
)
async def whep_patch(channel: Channel, resource: Resource, request: Request, here: Here) -> Response:
    """Trickle candidates to a watching session."""
    return await _patch(channel, resource, SessionKind.WHEP, request, here)


@routes.delete("/whep/{channel}/{resource}", tags=["WHEP"], responses=documented(404, 422, 503))
async def whep_delete(channel: Channel, resource: Resource, here: Here) -> Response:
    """Stop watching."""
    await here.signaling.leave(channel, resource)
    return Response(status_code=200, headers=CORS)


@routes.get(
    "/whep/{channel}/{resource}/events",
    response_class=Response,
    tags=["WHEP"],
    responses=events.OPENAPI | documented(404, 422, 503),
)
async def whep_events(channel: Channel, resource: Resource, here: Here) -> Response:
    """What happens to the session: `state`, `move` (make a new session), `ended`."""
    session = await here.signaling.find_viewer(channel, resource)
    return events.response(here.pages.of_session(session), CORS)


@routes.post("/whep/{channel}/{resource}/latency", tags=["WHEP"], responses=documented(404, 413, 422, 503))
async def whep_latency(
    channel: Channel, resource: Resource, post: ViewerLatency, here: Here, response: Response
) -> ViewerOrder:
    """What the page measured, glass to glass; the answer says when to post again."""
    response.headers.update(CORS)
    session = await here.signaling.find_viewer(channel, resource)
    return here.streams.viewer_latency(session, post)


async def _patch(channel: str, resource: str, kind: SessionKind, request: Request, here: Here) -> Response:
    _check_etag(request, resource)
    fragment = await _read(request, FRAGMENT, FRAGMENT_LIMIT)
    await here.signaling.trickle(channel, resource, kind, fragment)
    return Response(status_code=204, headers=CORS)
