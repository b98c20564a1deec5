"""What a broadcast is coded in: known from its publisher's answer, handed to edges, told to pages."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.controlplane.events import Events
from tests.controlplane.fake_node import FakeNode
from tests.controlplane.stage import Show, running
from tests.support.wait import wait_for


def asked(node: FakeNode, response: httpx.Response) -> str | None:
    """The codec that came with a viewer's session request."""
    return node.sessions[response.headers["Location"].rpartition("/")[2]].video_codec


async def test_an_edge_is_told_the_codec_with_the_first_viewer(show: Show) -> None:
    show.nodes["origin-1"].codec = "VP8"
    response = await show.whip()
    assert response.status_code == 201
    assert show.board.streams["main"].video_codec == "VP8"  # before anything was reported
    assert asked(show.nodes["edge-1"], await show.whep()) == "VP8"
    publisher = response.headers["Location"].rpartition("/")[2]
    assert show.nodes["origin-1"].sessions[publisher].video_codec is None


async def test_a_publisher_that_comes_back_with_another_codec_changes_what_edges_and_pages_are_told(
    show: Show,
) -> None:
    await show.on_air()
    page = Events(show, "/watch/main/events")
    await page.until("state", on_air=True, video_codec="H264")
    first = await show.whep()
    assert asked(show.nodes["edge-1"], first) == "H264"
    show.nodes["origin-1"].codec = "VP8"
    assert (await show.whip(token=show.tokens["main"])).status_code == 201
    await page.until("state", on_air=True, video_codec="VP8")
    assert asked(show.nodes["edge-1"], await show.whep()) == "VP8"

    async def shown() -> Any:
        (stream,) = await show.get("/streams")
        return stream["state"] == "live" and stream["video_codec"] == "VP8"

    await wait_for(shown, 5, "the console is shown it")
    # The edge ends the session of the codec before: its page makes a new one.
    session = Events(show, f"{first.headers['Location']}/events")
    await session.until("state")
    show.nodes["edge-1"].end_session(first.headers["Location"].rpartition("/")[2])
    await session.until("move")
    for events in (page, session):
        await events.close()


async def test_a_refusal_for_want_of_the_codec_is_passed_on_and_takes_no_seat(show: Show) -> None:
    await show.on_air()
    show.nodes["edge-1"].failure = (406, "no_common_codec")
    response = await show.whep()
    assert (response.status_code, response.json()["code"]) == (406, "no_common_codec")
    assert response.json()["detail"] == "as the node said"
    assert "Retry-After" not in response.headers
    assert show.board.seats_on("edge-1") == 0


@pytest.mark.parametrize("says", [True, False], ids=["in its answer", "in its reports"])
async def test_the_codec_is_known_after_a_restart_also_from_a_node_that_says_it_late(
    tmp_path: Path, says: bool
) -> None:
    nodes: dict[str, FakeNode] = {}
    async with running(tmp_path, nodes=nodes) as show:
        await show.until({"origin-1": "in_service", "edge-1": "in_service"})
        show.nodes["origin-1"].codec, show.nodes["origin-1"].says_codec = "VP8", says
        await show.on_air()
        await wait_for(lambda: show.board.streams["main"].video_codec == "VP8", 5, "it is known")
        provisioner = show.provisioner
    for node in nodes.values():
        node.silent = True
    async with running(tmp_path, nodes=nodes, provisioner=provisioner) as show:
        assert show.board.streams["main"].video_codec == "VP8"
        for node in list(nodes.values()):
            node.stop()


async def test_what_a_session_before_said_late_is_not_believed(show: Show) -> None:
    first = await show.on_air()
    origin = show.nodes["origin-1"]
    origin.silent = True
    origin.codec = "VP8"
    second = (await show.whip(token=show.tokens["main"])).headers["Location"].rpartition("/")[2]
    await wait_for(lambda: list(origin.sessions) == [second], 5, "the session before is dropped")
    kept = origin.sessions.pop(second)
    origin.sessions[first] = kept.model_copy(update={"id": first})
    await asyncio.to_thread(origin.report)  # of the session before, with its codec
    assert show.board.streams["main"].video_codec == "VP8"
