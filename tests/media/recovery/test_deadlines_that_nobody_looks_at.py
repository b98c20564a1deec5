"""Deadlines are put off, or not looked at yet, and nobody asks for them: those that come are kept anyway."""

from collections.abc import Callable
from typing import Any

import pytest

from controlplane.wire.nodes import Role
from media.core import rtcp
from media.core.dtls import FIRST_RESEND
from media.core.session import PARTED, PARTING_PATIENCE
from media.fanout.stream import LiveStream
from media.fanout.viewer import Viewer as Watching
from media.node.channels import FIRST_REPORT_WITHIN
from media.node.engine import FAR_GRID, JOINING_LOOKED_AT, RECEIVER_SILENCE
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


def on_air(show: Show) -> Node:
    """An origin whose publisher has said which time it is there."""
    origin, publisher = show.node(Role.ORIGIN, ORIGIN), Publisher(show)
    publisher.publish(origin)
    assert show.world.run_until(lambda: publisher.ready)
    show.world.run_for(2.5)
    return origin


def test_who_joins_in_good_order_needs_no_deadline(show: Show, monkeypatch: pytest.MonkeyPatch) -> None:
    origin = on_air(show)
    show.world.both_ways(ORIGIN, VIEWER)[0].delay = show.world.both_ways(ORIGIN, VIEWER)[1].delay = 0.001
    keys = count_sets(monkeypatch, origin)
    viewer = Viewer(show, VIEWER)
    viewer.watch(origin)
    assert show.world.run_until(lambda: viewer.ready)
    peer = origin.engine._peers[viewer.id]
    assert keys.count(peer) == 1  # that of its silence
    assert keys.count("joining") <= 2


def test_the_flight_of_who_joins_is_sent_again_when_it_is_time(show: Show) -> None:
    origin = on_air(show)
    viewer = Viewer(show, VIEWER)
    viewer.watch(origin)
    dtls = origin.engine._peers[viewer.id].session.dtls
    assert show.world.run_until(dtls.next_timeout)
    viewer.vanish()
    sent = show.world.now
    for wait in (FIRST_RESEND, 3 * FIRST_RESEND, 7 * FIRST_RESEND):
        at = dtls.next_timeout()
        assert at == pytest.approx(sent + wait)
        assert show.world.run_until(lambda at=at: dtls.next_timeout() != at)  # type: ignore[misc]
        assert show.world.now == pytest.approx(at, abs=0.001)


def test_who_never_comes_is_given_up_when_its_time_is_over(show: Show) -> None:
    origin = on_air(show)
    viewer = Viewer(show, VIEWER)
    viewer.watch(origin)
    viewer.vanish()
    asked = show.world.now
    assert show.world.run_until(lambda: viewer.id in origin.ended, limit=60)
    assert origin.ended[viewer.id] == "no address of the peer was validated in time"
    assert show.world.now - asked == pytest.approx(15.0, abs=0.001)
    show.world.run_for(JOINING_LOOKED_AT)
    assert "joining" not in origin.engine.timers._deadlines  # nobody joins: nobody is looked at


class Told(Viewer):
    """A viewer that notes when it was first told the time."""

    told_after: float | None = None  # seconds from the end of the handshake
    _ready_at = 0.0

    def begin(self) -> None:
        super().begin()
        self._ready_at = self.world.now

    def rtcp(self, packets: list[rtcp.RtcpPacket], now: float) -> None:
        super().rtcp(packets, now)
        if self.told_after is None and any(isinstance(packet, rtcp.SenderReport) for packet in packets):
            self.told_after = now - self._ready_at


def test_those_who_join_together_are_told_the_time_together_and_soon(
    show: Show, monkeypatch: pytest.MonkeyPatch
) -> None:
    origin = on_air(show)
    told: list[int] = []  # how many at once
    plain = LiveStream.report

    def report(stream: LiveStream, now: float, viewers: list[Watching]) -> None:
        told.append(len(viewers))
        plain(stream, now, viewers)

    monkeypatch.setattr(LiveStream, "report", report)
    show.world.run_until(lambda: told)  # the report of each second: the next is a second away
    told.clear()
    viewers = [Told(show, f"10.0.3.{number}") for number in range(1, 11)]
    for number, viewer in enumerate(viewers):
        show.world.call_at(show.world.now + number * FIRST_REPORT_WITHIN / 20, viewer.watch, origin)
    assert show.world.run_until(lambda: all(viewer.told_after is not None for viewer in viewers))
    assert told == [10]
    path = show.world.path(ORIGIN, "10.0.3.1")
    assert all(
        viewer.told_after is not None and viewer.told_after <= FIRST_REPORT_WITHIN + path.delay + path.jitter
        for viewer in viewers
    )
