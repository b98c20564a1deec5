"""The server-sent events extension of WHEP (draft-ietf-wish-whep-02, 4.9.1), over real HTTP."""

import re

import httpx
import pytest

from controlplane.services.event_streams import MOST_A_SESSION, MOST_WAITING, NAMES
from tests.controlplane.events import Events
from tests.controlplane.stage import AS_OPERATOR, Show
from tests.support.wait import wait_for

REL = "urn:ietf:params:whep:ext:core:server-sent-events"
DRAFT = ["active", "inactive", "layers", "reconnect", "viewercount"]


async def entrance(show: Show) -> str:
    """Where a viewer that has just come makes its event streams: as the Link header says."""
    joined = await show.whep()
    found = re.search(f'<([^>]*)>; rel="{REL}"; events="([^"]*)"', joined.headers["Link"])
    assert found is not None
    assert found[2].split(",") == list(NAMES)
    return found[1]


async def make(show: Show, path: str, names: object = None) -> httpx.Response:
    return await (show.http.post(path) if names is None else show.http.post(path, json=names))


async def made(show: Show, path: str, names: object = None) -> str:
    response = await make(show, path, names)
    assert (response.status_code, response.content) == (201, b"")
    assert response.headers["Access-Control-Allow-Origin"] == "*"
    location = response.headers["Location"]
    assert location.startswith(f"{path}/")
    return location


async def test_a_stream_tells_what_was_asked_for_and_nothing_else(show: Show) -> None:
    await show.on_air()
    path = await entrance(show)
    drafts, ours = (
        Events(show, await made(show, path, DRAFT)),
        Events(show, await made(show, path, ["state"])),
    )
    all_of_them = Events(show, await made(show, path))
    await drafts.until("active")
    await drafts.until("viewercount", viewercount=1)
    await drafts.until("layers")
    (layers,) = [data for name, data in drafts.seen if name == "layers"]
    # The video is the second m-line of the answer; the origin says what it is.
    assert layers == {"1": [{"spatialLayerId": 0, "width": 1280, "height": 720, "bitrate": 4_500_000}]}
    for event in ("state", "active", "viewercount", "layers"):
        await all_of_them.until(event)
    assert {name for name, _ in ours.seen} == {"state"}
    assert {name for name, _ in drafts.seen} == {"active", "viewercount", "layers"}
    assert drafts.seen[0] == ("active", {})
    await show.whep()
    await drafts.until("viewercount", viewercount=2)
    for events in (drafts, ours, all_of_them):
        await events.close()


async def test_the_publisher_goes_and_comes_back(show: Show) -> None:
    session = await show.on_air()
    events = Events(show, await made(show, await entrance(show), ["active", "inactive"]))
    await events.until("active")
    show.nodes["origin-1"].end_session(session)
    await events.until("inactive")
    assert (await show.whip(token=show.tokens["main"])).status_code == 201
    await wait_for(lambda: events.seen == [("active", {}), ("inactive", {}), ("active", {})], 8, "again")
    await events.close()


async def test_there_is_no_inactive_before_the_first_active(show: Show) -> None:
    session = await show.on_air()
    show.nodes["origin-1"].end_session(session)
    await show.until_stream("main", "reconnecting")
    events = Events(show, await made(show, await entrance(show), ["active", "inactive", "state"]))
    await events.until("state", state="waiting")
    assert [name for name, _ in events.seen] == ["state"]
    await events.close()


async def test_a_drain_that_ends_is_a_reconnect(show: Show) -> None:
    await show.on_air()
    events = Events(show, await made(show, await entrance(show), ["reconnect"]))
    assert (await show.http.post("/api/v1/fleet", headers=AS_OPERATOR, json={"role": "edge"})).is_success
    await show.until({"edge-2": "in_service"})
    await show.http.post("/api/v1/nodes/edge-1/drain", headers=AS_OPERATOR, json={"deadline_s": 0.5})
    await events.until("reconnect")
    assert events.seen == [("reconnect", {})]
    await events.close()


async def test_a_move_to_a_seat_that_is_kept_breaks_nothing_off(show: Show) -> None:
    await show.on_air()
    events = Events(show, await made(show, await entrance(show), ["reconnect", "move"]))
    assert (await show.http.post("/api/v1/fleet", headers=AS_OPERATOR, json={"role": "edge"})).is_success
    await show.until({"edge-2": "in_service"})
    await show.http.post("/api/v1/nodes/edge-1/drain", headers=AS_OPERATOR, json={"deadline_s": 60})
    await events.until("move", reason="edge-1 is being drained")
    assert events.seen[0][1]["url"].startswith("/whep/main?move=")
    assert [name for name, _ in events.seen] == ["move"]
    await events.close()


async def test_what_happens_while_nobody_reads_is_told_to_the_next_reader(show: Show) -> None:
    await show.on_air()
    location = await made(show, await entrance(show), ["active", "viewercount"])
    first = Events(show, location)
    await first.until("viewercount", viewercount=1)
    await first.close()
    await show.whep()
    await wait_for(lambda: show.board.viewers("main") == 2, 5, "the second viewer is counted")
    second = Events(show, location)
    await second.until("viewercount", viewercount=2)
    assert ("active", {}) not in second.seen  # that was read already
    third = Events(show, location)  # a reader that comes back before its connection is known to be dead
    await wait_for(lambda: second.closed, 5, "one reads at a time")
    await show.whep()
    await third.until("viewercount", viewercount=3)
    await third.close()


async def test_a_stream_that_is_deleted_is_gone(show: Show) -> None:
    await show.on_air()
    location = await made(show, await entrance(show))
    reading = Events(show, location)
    await reading.until("active")
    assert (await show.http.delete(location)).status_code == 200
    await wait_for(lambda: reading.closed, 5, "its reader is let go")
    assert (await show.http.get(location)).status_code == 404
    assert (await show.http.delete(location)).status_code == 404


async def test_streams_end_with_their_session(show: Show) -> None:
    await show.on_air()
    path = await entrance(show)
    location, unread = await made(show, path), await made(show, path)
    reading = Events(show, location)
    await reading.until("active")
    assert (await show.http.delete(path.removesuffix("/events"))).status_code == 200
    await wait_for(lambda: reading.closed, 5, "its reader is let go")
    for gone in (location, unread):
        assert (await show.http.get(gone)).status_code == 404
    response = await make(show, path)
    assert (response.status_code, response.json()["code"]) == (404, "no_such_session")
    assert show.stage.manager.pages.event_streams._streams == {}


async def test_the_end_of_the_broadcast_is_the_last_that_is_told(show: Show) -> None:
    await show.on_air()
    reading = Events(show, await made(show, await entrance(show), ["inactive", "ended"]))
    reader = Events(show, await made(show, await entrance(show), ["state"]))
    await reader.until("state")
    await show.http.delete("/api/v1/streams/main", headers=AS_OPERATOR)
    await wait_for(lambda: reading.closed and reader.closed, 5, "both end")
    assert reading.seen == [("inactive", {}), ("ended", {})]


@pytest.mark.parametrize(
    ("body", "kind", "status", "code"),
    [
        ('["active", "scte35"]', "application/json", 400, "unknown_event"),
        ('{"active": 1}', "application/json", 400, "bad_event_names"),
        ("[1]", "application/json", 400, "bad_event_names"),
        ("[", "application/json", 400, "bad_event_names"),
        ("[" * 4000, "application/json", 400, "bad_event_names"),
        ('["active"]', "text/plain", 415, "unsupported_media_type"),
        ("[" + '"active",' * 1000, "application/json", 413, "too_large"),
    ],
)
async def test_what_is_no_list_of_events_is_refused(
    show: Show, body: str, kind: str, status: int, code: str
) -> None:
    await show.on_air()
    path = await entrance(show)
    response = await show.http.post(path, content=body, headers={"Content-Type": kind})
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert show.stage.manager.pages.event_streams._streams == {}


async def test_a_session_has_a_few_streams_and_each_keeps_a_few_events(show: Show) -> None:
    await show.on_air()
    path = await entrance(show)
    streams = [await made(show, path, ["state"]) for _ in range(MOST_A_SESSION)]
    full = await make(show, path)
    assert (full.status_code, full.json()["code"]) == (409, "too_many_event_streams")
    assert (await show.http.delete(streams[0])).status_code == 200
    await made(show, path)
    session = path.split("/")[3]
    for number in range(10 * MOST_WAITING):
        show.stage.manager.pages.event_streams.tell(session, ("state", {"state": "live", "n": number}))
    reading = Events(show, streams[1])
    await reading.until("state", n=10 * MOST_WAITING - 1)
    assert len(reading.seen) == MOST_WAITING
    await reading.close()


async def test_a_stream_is_of_its_own_session_alone(show: Show) -> None:
    await show.on_air()
    mine, other = await entrance(show), await entrance(show)
    stream = (await made(show, mine)).rpartition("/")[2]
    for method in ("GET", "DELETE"):
        assert (await show.http.request(method, f"{other}/{stream}")).status_code == 404
    assert (await show.http.delete(f"{mine}/{stream}")).status_code == 200
