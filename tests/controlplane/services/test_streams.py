"""Live streams: stopping, vanishing, coming back; what pages are told meanwhile; latency."""

from pathlib import Path

from tests.controlplane.events import Events, join
from tests.controlplane.stage import AS_OPERATOR, Show, running, settings
from tests.support.wait import wait_for


async def test_a_stopped_broadcast_stays_stopped(show: Show) -> None:
    session = await show.on_air()
    _, events = await join(show)
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
    bad = await show.http.post(f"{paths[0]}/latency", json={"latency_ms": -1})
    assert bad.status_code == 422


async def test_a_publishers_report_is_shown(show: Show) -> None:
    session = await show.on_air()
    await show.publisher_report(session)
    stream = (await show.get("/streams"))[0]
    assert stream["publisher"] == "the test"
    assert stream["publish_state"] == "live"
    assert stream["bitrate_bps"] == 4.5e6
    assert stream["origin"] == "origin-1"
    assert stream["watch"].endswith("/watch/main")


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
