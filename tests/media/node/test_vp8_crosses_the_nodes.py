"""A stream in VP8, and a publisher that comes back with the other codec: real processes, decoded pictures."""

import pytest

from media.swarm.crowd import Crowd
from tests.media.node.crowds import EdgeDoor, seen
from tests.media.node.stand import Publisher, SessionRefused, Stand, Watcher, log_lines, until


def codecs_on_air(nodes: Stand, node: str) -> list[str | None]:
    last = nodes.manager.nodes[node].last
    return [] if last is None else [stream.video_codec for stream in last.streams]


@pytest.mark.parametrize("told", [True, False], ids=["told", "not told"])
async def test_a_vp8_publisher_is_seen_at_an_edge(nodes: Stand, told: bool) -> None:
    nodes.manager.tells_codec = told
    await nodes.node("origin", "origin-1")
    await nodes.node("edge", "edge-1", "--workers", "2")
    publisher, first, second = Publisher("VP8"), Watcher("VP8"), Watcher("H264", "VP8")
    try:
        await publisher.publish(nodes.manager, "origin-1", "main")
        assert nodes.manager.codec_of["main"] == "VP8"
        await first.watch(nodes.manager, "edge-1", "main")  # it has nothing else to be answered with
        await first.sees(30)
        assert first.size == (640, 360)
        assert "VP8/90000" in first.answer
        await until(lambda: codecs_on_air(nodes, "edge-1") == ["VP8"], "the edge says what is on air")
        await until(lambda: codecs_on_air(nodes, "origin-1") == ["VP8"], "and so does the origin")
        edge = nodes.manager.nodes["edge-1"].last
        assert edge is not None
        assert (edge.streams[0].width, edge.streams[0].height) == (640, 360)
        if told:  # else the other worker has to guess, and gives the viewer another session (see below)
            await second.watch(nodes.manager, "edge-1", "main")
            assert "H264/90000" not in second.answer
            await second.sees(30)
    finally:
        for peer in (publisher, first, second):
            await peer.close()


async def test_viewers_of_the_codec_before_are_given_up_and_those_who_come_back_see_the_new_one(
    nodes: Stand,
) -> None:
    await nodes.node("origin", "origin-1")
    await nodes.node("edge", "edge-1")
    manager = nodes.manager
    door, early_door = EdgeDoor(manager), EdgeDoor(manager)
    crowd = Crowd(door, viewers=30, ramp=100)  # more than are ended in one go
    early = Crowd(early_door, viewers=1, ramp=1)
    first, second, again = Publisher("H264"), Publisher("VP8"), Watcher("H264", "VP8")
    try:
        await first.publish(manager, "origin-1", "main")
        await crowd.come()
        await until(lambda: all(seen(m) for m in crowd.members.values()), "all see the first publisher")
        await until(lambda: codecs_on_air(nodes, "edge-1") == ["H264"], "the edge says what is on air")
        await second.publish(manager, "origin-1", "main")
        await early.come()  # perhaps before a packet of the new codec is here
        await until(
            lambda: all(m.failure == "the peer closed the connection" for m in crowd.members.values()),
            "viewers of the old codec are told",
        )
        edge = manager.nodes["edge-1"]
        await until(lambda: set(door.sessions) <= set(edge.ended), "their ends are reported")
        await until(lambda: seen(early.members[0]), "who was answered with the new codec sees it, and stays")
        await again.watch(manager, "edge-1", "main")
        await again.sees(5)
        assert "VP8/90000" in again.answer
        await until(lambda: codecs_on_air(nodes, "edge-1") == ["VP8"], "the edge says what is on air")
        assert not set(early_door.sessions) & set(edge.ended)
        ends = [line["reason"] for line in log_lines(nodes.nodes[1].log) if line["event"] == "session_ended"]
        assert ends.count("the broadcast is VP8 now") == len(crowd.members)
    finally:
        for peers in (crowd, early):
            await peers.leave()
        for peer in (first, second, again):
            await peer.close()


async def test_a_viewer_answered_with_a_guess_is_given_up_when_the_guess_was_wrong(nodes: Stand) -> None:
    await nodes.node("origin", "origin-1")
    await nodes.node("edge", "edge-1")
    nodes.manager.tells_codec = False
    publisher, guessed, known = Publisher("VP8"), Watcher("H264", "VP8"), Watcher("H264", "VP8")
    try:
        await publisher.publish(nodes.manager, "origin-1", "main")
        await guessed.watch(nodes.manager, "edge-1", "main")
        assert "H264/90000" in guessed.answer  # nothing of the stream is here yet
        await until(lambda: guessed.connection.connectionState == "closed", "it is told")
        assert guessed.frames == 0
        await known.watch(nodes.manager, "edge-1", "main")  # by now the edge knows
        await known.sees(10)
    finally:
        for peer in (publisher, guessed, known):
            await peer.close()


@pytest.mark.parametrize(
    ("on_air", "offered", "words"),
    [("VP8", "H264", "This broadcast is VP8"), ("H264", "VP8", "This broadcast is H.264")],
)
async def test_a_viewer_of_the_other_codec_alone_is_refused_with_words(
    nodes: Stand, on_air: str, offered: str, words: str
) -> None:
    await nodes.node("origin", "origin-1")
    await nodes.node("edge", "edge-1")
    publisher, viewers = Publisher(on_air), {name: Watcher(offered) for name in ("edge-1", "origin-1")}
    try:
        await publisher.publish(nodes.manager, "origin-1", "main")
        for node, viewer in viewers.items():
            with pytest.raises(SessionRefused) as refused:
                await viewer.watch(nodes.manager, node, "main")
            assert (refused.value.status, refused.value.problem["code"]) == (406, "no_common_codec")
            assert refused.value.problem["detail"].startswith(words)
    finally:
        for peer in (publisher, *viewers.values()):
            await peer.close()


async def test_a_publisher_that_lists_both_is_answered_h264(nodes: Stand) -> None:
    await nodes.node("origin", "origin-1")
    publisher = Publisher("VP8", "H264")
    try:
        await publisher.publish(nodes.manager, "origin-1", "main")
        assert nodes.manager.codec_of["main"] == "H264"
    finally:
        await publisher.close()
