"""Live streams: stopping, vanishing, coming back; what pages are told meanwhile; latency."""

import time
from pathlib import Path

import pytest

from controlplane.services.board import PAUSE_S
from controlplane.services.words import lasting
from tests.controlplane.events import Events, join
from tests.controlplane.stage import AS_OPERATOR, Show, running, settings
from tests.support.wait import wait_for


async def test_a_stopped_broadcast_stays_stopped(show: Show) -> None:
    session = await show.on_air()
    _, events = await join(show)
    await wait_for(lambda: show.board.viewers("main") == 1, 5, "the edge has told of its viewer")
    response = await show.http.delete("/api/v1/streams/main", headers=AS_OPERATOR)
    assert response.json() == {"channel": "main", "state": "ended", "viewers": 1}
    await events.until("ended")
    await wait_for(lambda: events.closed, 5, "the event stream ends")
    await wait_for(
        lambda: not show.nodes["origin-1"].sessions and not show.nodes["edge-1"].sessions,
        5,
        "the nodes let everything of the channel go",
    )
    assert show.board.seats_on("edge-1") == show.board.seats_on("origin-1") == 0
    assert (await show.publisher_report(session))["action"] == "stop"
    again = await show.whip(token=show.tokens["main"])
    assert (again.status_code, again.json()["code"]) == (401, "token_revoked")
    assert (await show.whip(token=await show.token())).status_code == 201  # a new token may


async def test_stopping_what_is_not_on_air_is_a_404(show: Show) -> None:
    response = await show.http.delete("/api/v1/streams/main", headers=AS_OPERATOR)
    assert (response.status_code, response.json()["code"]) == (404, "not_on_air")


async def test_a_vanished_publisher_is_waited_for_and_then_the_stream_ends(tmp_path: Path) -> None:
    async with running(tmp_path, settings(streams={"reconnect_s": 1.5})) as show:
        await show.until({"origin-1": "in_service", "edge-1": "in_service"})
        session = await show.on_air()
        _, events = await join(show)
        show.nodes["origin-1"].end_session(session)
        await show.until_stream("main", "reconnecting")
        await events.until("state", state="waiting")
        assert (await show.publisher_report(session))["action"] == "reconnect"
        assert (await show.whip(token=await show.token())).status_code == 409  # kept for its publisher
        await show.until_stream("main", None)
        await events.until("ended")


async def test_a_publisher_that_comes_back_in_time_keeps_its_viewers(show: Show) -> None:
    session = await show.on_air()
    path, events = await join(show)
    show.nodes["origin-1"].end_session(session)
    await show.until_stream("main", "reconnecting")
    assert (await show.whip(token=show.tokens["main"])).status_code == 201
    await show.until_stream("main", "live")
    await events.until("state", state="live")
    assert path.rpartition("/")[2] in show.nodes["edge-1"].sessions
    await events.close()


async def test_a_silent_encoder_stalls_the_stream_and_then_it_counts_as_gone(tmp_path: Path) -> None:
    async with running(tmp_path, settings(streams={"stalled_s": 1.0})) as show:
        await show.until({"origin-1": "in_service"})
        await show.on_air()
        show.nodes["origin-1"].media = "stalled"
        await show.until_stream("main", "stalled")
        await show.until_stream("main", "reconnecting")
        assert not show.nodes["origin-1"].sessions or await wait_for(
            lambda: not show.nodes["origin-1"].sessions, 5, "the node lets the silent session go"
        )


async def test_a_publisher_without_media_is_given_up(tmp_path: Path) -> None:
    async with running(tmp_path, settings(streams={"connect_s": 1.0})) as show:
        await show.until({"origin-1": "in_service"})
        show.nodes["origin-1"].media = "waiting"
        assert (await show.whip()).status_code == 201
        await show.until_stream("main", "connecting")
        await show.until_stream("main", None)
        assert show.board.seats_on("origin-1") == 0


async def test_a_waiting_page_is_told_when_the_show_begins_and_ends(show: Show) -> None:
    events = Events(show, "/watch/main/events")
    await events.until("state", on_air=False, viewers=0)
    session = await show.on_air()
    await events.until("state", on_air=True)
    await show.whep()
    await events.until("state", on_air=True, viewers=1)
    mine = {"Authorization": f"Bearer {show.tokens['main']}"}
    await show.http.delete(f"/whip/main/{session}", headers=mine)
    await events.until("state", on_air=False, viewers=0)
    await events.close()


async def test_latency_is_what_the_viewers_posted_last(show: Show) -> None:
    await show.on_air()
    paths = [(await show.whep()).headers["Location"] for _ in range(20)]
    assert (await show.get("/streams"))[0]["latency_ms"] == {"p50": None, "p95": None, "age_s": None}
    await wait_for(lambda: show.board.viewers("main") == 20, 5, "the edge has told of its viewers")
    for value, path in enumerate(paths, 1):
        for latency in (9999, value * 10):
            posted = await show.http.post(f"{path}/latency", json={"latency_ms": latency})
        assert posted.json() == {"interval_s": 2.0, "viewers": 20}
    latency = (await show.get("/streams"))[0]["latency_ms"]
    assert (latency["p50"], latency["p95"]) == (100, 190)
    assert 0 <= latency["age_s"] < 5
    await show.http.delete(paths[-1])
    assert (await show.get("/streams"))[0]["latency_ms"]["p95"] == 190
    for wrong in ('{"latency_ms": -1}', '{"latency_ms": 5, "bitrate_bps": 1e999}', '{"latency_ms": NaN}'):
        json = {"Content-Type": "application/json"}
        bad = await show.http.post(f"{paths[0]}/latency", content=wrong, headers=json)
        assert bad.status_code == 422, wrong


async def test_a_publishers_report_is_shown(show: Show) -> None:
    session = await show.on_air()
    await show.publisher_report(session)
    stream = (await show.get("/streams"))[0]
    assert stream["publisher"] == "the test"
    assert stream["publish_state"] == "live"
    assert stream["bitrate_bps"] == 4.5e6
    assert stream["origin"] == "origin-1"
    assert stream["watch"].endswith("/watch/main")


async def test_an_edge_to_which_nothing_comes_is_named_with_who_watches_there(show: Show) -> None:
    await show.on_air()
    await show.whep()
    await wait_for(lambda: show.board.viewers("main") == 1, 5, "the edge has told of its viewer")
    assert (await show.get("/streams"))[0]["starved"] == {}
    stream = show.board.streams["main"]
    show.nodes["edge-1"].relayed = "stalled"
    await wait_for(lambda: show.board.starved(stream) == {"edge-1": 1}, 5, "the edge has told of it")
    assert (await show.get("/streams"))[0]["starved"] == {"edge-1": 1}
    show.nodes["edge-1"].relayed = "live"
    await wait_for(lambda: show.board.starved(stream) == {}, 5)


async def test_a_publishers_words_are_bounded(show: Show) -> None:
    session = await show.on_air()
    report = {
        "line": {"at": "x" * 100_000, "channel": "other", "state": "live"},
        "publisher": "p" * 100_000,
        "session": session,
        "source": "s" * 100_000,
        "message": "m" * 100_000,
    }
    headers = {"Authorization": f"Bearer {show.tokens['main']}"}
    response = await show.http.post("/api/v1/channels/main/publisher", headers=headers, json=report)
    assert response.json()["action"] == "continue"
    streams = await show.get("/streams")
    assert len(str(streams)) < 4096
    assert streams[0]["report"]["line"]["channel"] == "main"


async def test_a_report_of_another_publisher_of_the_channel_is_told_to_stop(show: Show) -> None:
    await show.on_air()
    show.tokens["main"] = await show.token()
    assert (await show.publisher_report("some-session"))["action"] == "stop"
    assert (await show.get("/streams"))[0]["publish_state"] is None


async def test_a_publisher_whose_stream_was_given_up_may_publish_again(show: Show) -> None:
    show.tokens["main"] = await show.token()
    assert (await show.publisher_report("a-session-of-before"))["action"] == "reconnect"
    assert (await show.publisher_report(None))["action"] == "continue"


async def test_a_stray_session_on_a_node_is_ordered_to_end(show: Show) -> None:
    from controlplane.wire.nodes import SessionKind, SessionRequest

    edge = show.nodes["edge-1"]
    edge.sessions["stray"] = SessionRequest(id="stray", kind=SessionKind.WHEP, channel="main", offer="")
    await wait_for(lambda: "stray" not in edge.sessions, 5, "the stray is gone")
    assert "end_session stray" in edge.orders or "end_channel main" in edge.orders


class Clock:
    """The machine's clock, with a wall clock that somebody sets and a steady one that may jump on."""

    def __init__(self) -> None:
        self.set_by = 0.0
        self.stood_still = 0.0

    def now(self) -> float:
        return time.time() + self.set_by

    def monotonic(self) -> float:
        return time.monotonic() + self.stood_still


async def test_a_clock_that_is_set_ends_no_stream_and_keeps_none(tmp_path: Path) -> None:
    clock = Clock()
    async with running(tmp_path, settings(streams={"reconnect_s": 30}), clock=clock) as show:
        await show.until({"origin-1": "in_service"})
        session = await show.on_air()
        show.nodes["origin-1"].end_session(session)
        await show.until_stream("main", "reconnecting")
        for set_by in (86_400.0, -86_400.0):
            clock.set_by = set_by
            await show.stage.manager.streams.tick()
            assert show.board.streams["main"].state == "reconnecting"
            assert (await show.publisher_report(session))["action"] == "reconnect"
        for _ in range(10):  # less than a pause at a time, more than its patience in all
            clock.stood_still += PAUSE_S - 1.5
            await show.stage.manager.streams.tick()
        assert "main" not in show.board.streams


async def test_after_a_pause_of_the_managers_own_a_publisher_has_its_time_again(tmp_path: Path) -> None:
    clock = Clock()
    async with running(tmp_path, settings(streams={"reconnect_s": 30}), clock=clock) as show:
        await show.until({"origin-1": "in_service"})
        session = await show.on_air()
        show.nodes["origin-1"].end_session(session)
        await show.until_stream("main", "reconnecting")
        clock.stood_still = 3600.0
        await show.stage.manager.streams.tick()
        assert show.board.streams["main"].state == "reconnecting"


async def test_the_last_words_of_an_ended_session_make_no_stream_live(show: Show) -> None:
    """A node may tell of a stream once more in the report that says its session has ended."""
    session = await show.on_air()
    origin = show.nodes["origin-1"]
    assert origin.enrolled is not None
    origin.silent = True
    stream = {"channel": "main", "kind": "published", "state": "live", "session": session}
    for seq in (1_000_000, 1_000_001):
        report = {
            "at": time.time(),
            "seq": seq,
            "connections": 0,
            "egress_bps": 0.0,
            "ingress_bps": 0.0,
            "sessions": None,
            "ended": [session],
            "streams": [stream],
        }
        answer = await show.http.post(
            "/api/v1/nodes/origin-1/report",
            headers={"Authorization": f"Bearer {origin.enrolled.credential}"},
            json=report,
        )
        assert answer.status_code == 200
        assert show.board.streams["main"].state == "reconnecting"


async def test_that_a_token_was_made_is_in_the_journal_and_the_token_is_not(show: Show) -> None:
    body = {"channel": "main", "ttl_s": 60}
    made = (await show.http.post("/api/v1/tokens", headers=AS_OPERATOR, json=body)).json()
    entry = (await show.get("/journal"))[-1]
    assert (entry["kind"], entry["subject"], entry["actor"]) == ("token.created", "main", "operator")
    assert entry["message"] == "operator made a token that publishes main for 1 minute."
    assert entry["data"] == {"expires": made["expires"]}
    assert made["token"] not in str(entry)
    assert made["token"].rpartition(".")[2] not in str(entry)


async def test_a_token_taken_back_is_refused_and_the_journal_says_why(show: Show) -> None:
    token = await show.token()
    body = {"channel": "main", "token": token, "why": "the broadcast did not come on air"}
    assert (await show.http.post("/api/v1/tokens/revoke", json=body)).status_code == 401
    taken = await show.http.post("/api/v1/tokens/revoke", headers=AS_OPERATOR, json=body)
    assert taken.status_code == 204
    entry = (await show.get("/journal"))[-1]
    assert (entry["kind"], entry["subject"], entry["actor"]) == ("token.revoked", "main", "operator")
    assert entry["message"] == (
        "operator took back a token that publishes main: the broadcast did not come on air."
    )
    refused = await show.whip(token=token)
    assert (refused.status_code, refused.json()["code"]) == (401, "token_revoked")
    wrong = await show.http.post(
        "/api/v1/tokens/revoke", headers=AS_OPERATOR, json=body | {"channel": "side"}
    )
    assert wrong.status_code == 403


async def test_that_a_stop_takes_the_token_back_is_in_the_journal(show: Show) -> None:
    await show.on_air()
    await show.http.delete("/api/v1/streams/main", headers=AS_OPERATOR)
    assert "token.revoked" in await show.journal()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(60, "1 minute"), (3600, "1 hour"), (90, "90 seconds"), (30 * 86_400, "30 days"), (0.2, "1 second")],
)
def test_how_long_a_token_lasts_in_words(seconds: float, text: str) -> None:
    assert lasting(seconds) == text


async def test_what_is_known_of_a_node_before_it_told_of_its_sessions_has_no_date(show: Show) -> None:
    edge = show.nodes["edge-1"]
    edge.silent = True
    heard = show.board.heard["edge-1"]
    heard.sessions, heard.sessions_at = None, 0.0  # as after a restart, before a full report
    asked = await show.get("/nodes/edge-1")
    assert asked["reported_at"] is not None, "the node is asked what it told last"
    edge.tells_sessions = False  # of an earlier version
    inside = await show.get("/nodes/edge-1")
    assert inside["sessions"] == []
    assert inside["reported_at"] is None


async def test_viewers_that_leave_together_are_told_of_in_one_request(show: Show) -> None:
    await show.on_air()
    for _ in range(3):
        assert (await show.whep()).status_code == 201
    edge = show.nodes["edge-1"]
    viewers = [show.board.sessions[session] for session in edge.sessions]
    for viewer in viewers[:2]:
        show.stage.manager.streams.drop_session(viewer, "the viewer left")
    show.stage.manager.streams.drop_session(viewers[2], "its connection never stood")
    await wait_for(lambda: not edge.sessions, 5, "the node let them all go")
    assert edge.calls.count("POST /v1/sessions/end") == 2, "one for each reason"
