"""WHIP (RFC 9725) and WHEP (draft-ietf-wish-whep): offers in, answers out, proxied to the node.

    OPTIONS, POST     /whip/{channel}              /whep/{channel}
    PATCH, DELETE     /whip/{channel}/{resource}   /whep/{channel}/{resource}

What else a WHEP session has is in whep_extensions.

Publishing needs a publish token; watching is open, and the resource of a session is unguessable. A browser
may call all of it from another origin. A redirect would not let it, so a channel's address is served with a
slash at its end as well.

PATCH hands over trickled candidates (204) or restarts ICE (200, with the node's new credentials and a new
entity tag). It needs If-Match: the session's entity tag, or `*` (428 without, 412 with another one; the node
compares). GET finds nothing to show, but succeeds, as RFC 9725 section 4.1 asks for.
"""

from collections.abc import Iterable
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import Response

from controlplane.config import IceServer
from controlplane.errors import BadRequest
from controlplane.http.auth import PublishToken, check_operator
from controlplane.http.bodies import LOCATION, described, read_text
from controlplane.http.context import Here
from controlplane.http.cors import CORS, preflight
from controlplane.http.problems import documented
from controlplane.http.streams import Channel
from controlplane.services.event_streams import NAMES
from controlplane.wire.nodes import (
    PAGE_PATTERN,
    PARTY_PATTERN,
    PARTY_SIZE_MOST,
    SessionAnswer,
    SessionKind,
    ice_etag,
)

routes = APIRouter()

SDP = "application/sdp"
FRAGMENT = "application/trickle-ice-sdpfrag"
SDP_LIMIT = 64 * 1024
FRAGMENT_LIMIT = 16 * 1024
EVENTS_REL = "urn:ietf:params:whep:ext:core:server-sent-events"
LATENCY_REL = "urn:showcaller:whep:ext:latency"

Party = Annotated[str | None, Query(pattern=PARTY_PATTERN)]
Size = Annotated[int | None, Query(ge=1, le=PARTY_SIZE_MOST)]
Region = Annotated[str | None, Query(max_length=64)]
Edge = Annotated[str | None, Query(max_length=64)]
Move = Annotated[str | None, Query(max_length=200)]
Page = Annotated[str | None, Query(pattern=PAGE_PATTERN)]
Resource = Annotated[str, Path(max_length=128)]  # what is no session is not found


_ETAG = {"ETag": {"description": "Of the ICE session, for If-Match", "schema": {"type": "string"}}}
_CREATED: dict[int | str, dict[str, Any]] = {
    201: {
        "description": "The session; its address is in Location",
        "content": {SDP: {"schema": {"type": "string"}}},
        "headers": LOCATION | _ETAG,
    }
}
_PATCHED: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "ICE is restarted: the node's side of it",
        "content": {FRAGMENT: {"schema": {"type": "string"}}},
        "headers": _ETAG,
    },
    204: {"description": "The candidates are taken"},
}
_PATCH_EXTRA = described(FRAGMENT) | {
    "parameters": [
        {
            "name": "If-Match",
            "in": "header",
            "required": True,
            "description": "The session's entity tag, or * to restart ICE whatever it is",
            "schema": {"type": "string"},
        }
    ]
}
ENDED: dict[int | str, dict[str, Any]] = {200: {"description": "It has ended"}}


def _extensions(path: str) -> tuple[str, ...]:
    """What a session at this path has, for the Link header of its answer."""
    return (
        f'<{path}/events>; rel="{EVENTS_REL}"; events="{",".join(NAMES)}"',
        f'<{path}/latency>; rel="{LATENCY_REL}"',
    )


def _ice_server(server: IceServer) -> str:
    """A Link to a STUN or TURN server, with its credentials (RFC 9725 section 4.6)."""
    link = f'<{server.url}>; rel="ice-server"'
    for name, value in (("username", server.username), ("credential", server.credential)):
        if value is not None:
            quoted = value.replace("\\", "\\\\").replace('"', '\\"')  # RFC 9110 section 5.6.4
            link += f'; {name}="{quoted}"'
    return link + ('; credential-type="password"' if server.credential is not None else "")


def _created(path: str, answer: SessionAnswer, links: Iterable[str], here: Here) -> Response:
    headers = CORS | {
        "Location": path,
        "ETag": ice_etag(answer.id),
        "Accept-Patch": FRAGMENT,
        "Cache-Control": "no-store",
    }
    every = [*links, *map(_ice_server, here.ice_servers)]
    if every:
        headers["Link"] = ", ".join(every)
    return Response(answer.answer, status_code=201, headers=headers, media_type=SDP)


def _channel_options() -> Response:
    return Response(headers=preflight("GET", "HEAD", "POST") | {"Accept-Post": SDP})


def _resource_options() -> Response:
    headers = preflight("GET", "HEAD", "PATCH", "DELETE")
    return Response(headers=headers | {"Accept-Post": SDP, "Accept-Patch": FRAGMENT})


def _channel() -> Response:
    """Of type application/sdp, so that a player knows the address for what it is (WHEP, section 4.2)."""
    return Response(headers=CORS, media_type=SDP)


def _publisher_name(request: Request) -> str:
    agent = request.headers.get("user-agent", "").strip()[:120] or "a WHIP client"
    host = request.client.host if request.client else "?"
    return f"{agent} from {host}"


# WHIP


@routes.options("/whip/{channel}", tags=["WHIP"], response_class=Response)
@routes.options("/whip/{channel}/", response_class=Response, include_in_schema=False)
async def whip_options(channel: str) -> Response:
    """What can be done here, and that a page of another origin may."""
    return _channel_options()


@routes.head("/whip/{channel}/", response_class=Response, include_in_schema=False)
@routes.head("/whip/{channel}", tags=["WHIP"], response_class=Response, responses=documented(422))
@routes.get("/whip/{channel}/", response_class=Response, include_in_schema=False)
@routes.get("/whip/{channel}", tags=["WHIP"], response_class=Response, responses=documented(422))
async def whip_show(channel: Channel) -> Response:
    """Nothing to show: POST an offer."""
    return _channel()


@routes.post("/whip/{channel}/", status_code=201, response_class=Response, include_in_schema=False)
@routes.post(
    "/whip/{channel}",
    status_code=201,
    response_class=Response,
    tags=["WHIP"],
    responses=_CREATED | documented(400, 401, 403, 406, 409, 413, 415, 422, 503),
    openapi_extra=described(SDP),
)
async def whip(channel: Channel, request: Request, here: Here, token: PublishToken) -> Response:
    """Publish a channel: the body is the SDP offer, the answer's body the SDP answer."""
    claims = await here.tokens.check(token, channel)
    offer = await read_text(request, SDP, SDP_LIMIT)
    answer = await here.signaling.publish(claims, offer, _publisher_name(request))
    return _created(f"/whip/{channel}/{answer.id}", answer, (), here)


@routes.options("/whip/{channel}/{resource}", tags=["WHIP"], response_class=Response)
async def whip_session_options(channel: str, resource: str) -> Response:
    """What can be done with a publishing session."""
    return _resource_options()


@routes.head(
    "/whip/{channel}/{resource}",
    status_code=204,
    tags=["WHIP"],
    response_class=Response,
    responses=documented(401, 403, 404, 422, 503),
)
@routes.get(
    "/whip/{channel}/{resource}",
    status_code=204,
    tags=["WHIP"],
    response_class=Response,
    responses=documented(401, 403, 404, 422, 503),
)
async def whip_session(channel: Channel, resource: Resource, here: Here, token: PublishToken) -> Response:
    """Nothing to show of a publishing session but that there is one."""
    here.tokens.read(token, channel, accept_expired=True)
    await here.signaling.check_present(channel, resource, SessionKind.WHIP)
    return Response(status_code=204, headers=CORS)


@routes.patch(
    "/whip/{channel}/{resource}",
    status_code=204,
    response_class=Response,
    tags=["WHIP"],
    responses=_PATCHED | documented(400, 401, 403, 404, 412, 413, 415, 422, 428, 503),
    openapi_extra=_PATCH_EXTRA,
)
async def whip_patch(
    channel: Channel, resource: Resource, request: Request, here: Here, token: PublishToken
) -> Response:
    """Trickle candidates to a publishing session, or restart its ICE."""
    here.tokens.read(token, channel, accept_expired=True)
    return await _patch(channel, resource, SessionKind.WHIP, request, here)


@routes.delete(
    "/whip/{channel}/{resource}",
    tags=["WHIP"],
    response_class=Response,
    responses=ENDED | documented(401, 403, 404, 422, 503),
)
async def whip_delete(
    channel: Channel, resource: Resource, here: Here, token: PublishToken, why: str = ""
) -> Response:
    """Stop publishing: the stream ends. `why=source_over` says that the source was at its end."""
    here.tokens.read(token, channel, accept_expired=True)
    await here.signaling.unpublish(channel, resource, why)
    return Response(status_code=200, headers=CORS)


# WHEP


@routes.options("/whep/{channel}", tags=["WHEP"], response_class=Response)
@routes.options("/whep/{channel}/", response_class=Response, include_in_schema=False)
async def whep_options(channel: str) -> Response:
    """What can be done here, and that a page of another origin may."""
    return _channel_options()


@routes.head("/whep/{channel}/", response_class=Response, include_in_schema=False)
@routes.head("/whep/{channel}", tags=["WHEP"], response_class=Response, responses=documented(422))
@routes.get("/whep/{channel}/", response_class=Response, include_in_schema=False)
@routes.get("/whep/{channel}", tags=["WHEP"], response_class=Response, responses=documented(422))
async def whep_show(channel: Channel) -> Response:
    """Nothing to show: POST an offer."""
    return _channel()


@routes.post("/whep/{channel}/", status_code=201, response_class=Response, include_in_schema=False)
@routes.post(
    "/whep/{channel}",
    status_code=201,
    response_class=Response,
    tags=["WHEP"],
    responses=_CREATED | documented(400, 401, 403, 404, 406, 409, 413, 415, 422, 429, 503),
    openapi_extra=described(SDP),
)
async def whep(
    channel: Channel,
    request: Request,
    here: Here,
    party: Party = None,
    size: Size = None,
    region: Region = None,
    move: Move = None,
    edge: Edge = None,
    page: Page = None,
) -> Response:
    """Watch a channel: the body is the SDP offer, the answer's body the SDP answer.

    `party` is a word of the viewers' own choice: those of a channel who say the same are seated on one edge,
    and served by one worker of it. It gives no right, and says who watches together to nobody else. `size` is
    how many they will be: with the first of them room is reserved for all, and kept for a while for those who
    have not come. Where no edge has so much room they are seated on several; 503 with Retry-After says that
    there is no seat anywhere. `page` is a word by chance, of whoever asks: the same where it asks again, so
    that who waits is counted once. `region` is where the viewer is: edges there are taken first. `edge` is
    for who tries an edge out, and needs the operator's token: there, if it has room. `move` is what an event
    `move` named: the offer goes to the session that is kept for this viewer, once; where that is refused
    (403, 404, 409 with move_taken) the one it has goes on.
    """
    if edge is not None:
        check_operator(request)
    offer = await read_text(request, SDP, SDP_LIMIT)
    address = request.client.host if request.client else ""
    if move is None:
        answer = await here.signaling.view(
            channel, offer, address, party=party, size=size, region=region, edge=edge, page=page
        )
    else:
        answer = await here.signaling.follow(channel, move, offer)
    here.pages.event_streams.answered(answer.id, answer.answer)
    path = f"/whep/{channel}/{answer.id}"
    return _created(path, answer, _extensions(path), here)


@routes.options("/whep/{channel}/{resource}", tags=["WHEP"], response_class=Response)
async def whep_session_options(channel: str, resource: str) -> Response:
    """What can be done with a watching session."""
    return _resource_options()


@routes.head(
    "/whep/{channel}/{resource}",
    status_code=204,
    tags=["WHEP"],
    response_class=Response,
    responses=documented(404, 422, 503),
)
@routes.get(
    "/whep/{channel}/{resource}",
    status_code=204,
    tags=["WHEP"],
    response_class=Response,
    responses=documented(404, 422, 503),
)
async def whep_session(channel: Channel, resource: Resource, here: Here) -> Response:
    """Nothing to show of a watching session but that there is one."""
    await here.signaling.check_present(channel, resource, SessionKind.WHEP)
    return Response(status_code=204, headers=CORS)


@routes.patch(
    "/whep/{channel}/{resource}",
    status_code=204,
    response_class=Response,
    tags=["WHEP"],
    responses=_PATCHED | documented(400, 404, 412, 413, 415, 422, 428, 503),
    openapi_extra=_PATCH_EXTRA,
)
async def whep_patch(channel: Channel, resource: Resource, request: Request, here: Here) -> Response:
    """Trickle candidates to a watching session, or restart its ICE."""
    return await _patch(channel, resource, SessionKind.WHEP, request, here)


@routes.delete(
    "/whep/{channel}/{resource}",
    tags=["WHEP"],
    response_class=Response,
    responses=ENDED | documented(404, 422, 503),
)
async def whep_delete(channel: Channel, resource: Resource, here: Here) -> Response:
    """Stop watching."""
    await here.signaling.leave(channel, resource)
    return Response(status_code=200, headers=CORS)


async def _patch(channel: str, resource: str, kind: SessionKind, request: Request, here: Here) -> Response:
    if_match = request.headers.get("if-match")
    if if_match is None:
        raise BadRequest(
            "A PATCH needs If-Match: the session's entity tag (see its answer), or * to restart ICE.",
            code="etag_needed",
            title="An entity tag is needed",
            status=428,
        )
    fragment = await read_text(request, FRAGMENT, FRAGMENT_LIMIT, wanted="a trickle fragment")
    restarted = await here.signaling.patch(channel, resource, kind, fragment, if_match)
    if restarted is None:
        return Response(status_code=204, headers=CORS)
    headers = CORS | {"ETag": restarted.etag, "Cache-Control": "no-store"}
    return Response(restarted.fragment, headers=headers, media_type=FRAGMENT)
