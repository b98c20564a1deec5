"""Reports and media put deadlines off without anybody looking at them: those that come are kept anyway."""

from collections.abc import Callable
from typing import Any

import pytest

from controlplane.wire.nodes import Role
from media.core import rtcp
from media.core.session import PARTED, PARTING_PATIENCE
from media.node.engine import FAR_GRID, RECEIVER_SILENCE
from tests.media.recovery.peers import Publisher, Viewer
from tests.media.recovery.world import ORIGIN, VIEWER, Node, Show

REPORTS_S = 20.0  # longer than a receiver may be silent


def watched(show: Show) -> tuple[Node, Viewer]:
    origin = show.node(Role.ORIGIN, ORIGIN)
    publisher, viewer = Publisher(show), Viewer(show, VIEWER)
    publisher.publish(origin)
    viewer.watch(origin)
    assert show.world.run_until(lambda: viewer.shown)
    return origin, viewer


def test_a_viewer_is_given_up_as_long_after_its_last_report_as_it_may_be_silent(show: Show) -> None:
    origin, viewer = watched(show)
    show.world.run_for(REPORTS_S)
    assert viewer.id not in origin.ended
    peer = origin.engine._peers[viewer.id]
    viewer.vanish()
    show.world.run_for(1.0)
    heard = peer.session.consent_ends_at - RECEIVER_SILENCE
    assert show.world.run_until(lambda: viewer.id in origin.ended, limit=60)
    assert RECEIVER_SILENCE <= show.world.now - heard <= RECEIVER_SILENCE + 0.3


def test_the_silences_of_a_crowd_are_looked_at_some_together(show: Show) -> None:
    origin, first = watched(show)
    second = Viewer(show, "10.0.3.2")
    show.world.run_for(0.03)
    second.watch(origin)
    assert show.world.run_until(lambda: second.ready)
    show.world.run_for(2 * RECEIVER_SILENCE)
    peers = [origin.engine._peers[viewer.id] for viewer in (first, second)]
    kept = [origin.engine.timers._deadlines[peer][0] for peer in peers]
    assert all(at % FAR_GRID == 0 for at in kept)
    assert all(at <= peer.session.consent_ends_at + FAR_GRID for at, peer in zip(kept, peers, strict=True))


def test_who_says_good_bye_after_many_reports_is_gone_when_patience_ends(show: Show) -> None:
    origin, viewer = watched(show)
    show.world.run_for(REPORTS_S)
    viewer.close()
    left = show.world.now
    viewer.vanish()
    assert show.world.run_until(lambda: viewer.id in origin.ended, limit=60)
    assert origin.ended[viewer.id] == PARTED
    assert show.world.now - left <= PARTING_PATIENCE + 0.5


def count_sets(monkeypatch: pytest.MonkeyPatch, node: Node) -> list[object]:
    """The keys of the deadlines that are set from now on."""
    timers = node.engine.timers
    keys: list[object] = []
    plain: Callable[..., None] = timers.set

    def set_and_note(key: Any, *arguments: Any) -> None:
        keys.append(key)
        plain(key, *arguments)

    monkeypatch.setattr(timers, "set", set_and_note)
    return keys


def test_a_report_sets_no_deadline_and_a_wish_for_a_key_frame_does(
    show: Show, monkeypatch: pytest.MonkeyPatch
) -> None:
    origin, viewer = watched(show)
    peer = origin.engine._peers[viewer.id]
    assert viewer.session is not None
    assert viewer.session.outbound is not None

    def said(packets: list[rtcp.RtcpPacket]) -> set[object]:
        keys = count_sets(monkeypatch, origin)
        data = viewer.session.outbound.protect_rtcp(rtcp.build_compound(packets))  # type: ignore[union-attr]
        origin.engine._turn_begins()
        origin.engine._routing.packet(data, viewer.address, show.world.now)
        origin.engine._drained(show.world.now)
        return set(keys)

    heard = peer.session.stats(show.world.now).datagrams_in
    assert said([rtcp.ReceiverReport(1)]) == set()
    assert said([rtcp.ReceiverReport(1), rtcp.Nack(1, viewer.their_ssrc, (1, 2))]) == set()
    assert said([rtcp.Pli(1, viewer.their_ssrc)]) == {peer.stream}
    assert peer.session.stats(show.world.now).datagrams_in == heard + 3
