"""The channels of a worker: who is on each, where its media comes from, and what becomes of it.

A channel is there from its first session on. It is let go when nobody needs it any more: on an edge 5 s after
its last viewer, on an origin 30 s after its publisher. Receivers whose answer is for another codec than what
the source sends are its misfits, and are ended, some at a time (docs/decisions/0012).

Nothing here knows of sockets or offers: the engine says who came, who is ready and who has gone.
"""

import asyncio
import dataclasses
import functools
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import structlog

from controlplane.wire.nodes import Role, SessionKind
from media.core.codecs import VideoCodec
from media.drive.timers import Timers
from media.fanout.sender import FanoutSender
from media.fanout.stream import LiveStream
from media.fanout.viewer import Viewer
from media.node.counts import Counts
from media.node.errors import Refused
from media.node.peer import Peer
from media.node.relay import Relay

log = structlog.get_logger(__name__)

LET_GO_AFTER = 5.0  # an edge's relay, once the last viewer has left
ORPHAN_AFTER = 30.0  # an origin's stream without a publisher, should the manager not end it before
MISFIT_AFTER = 5.0  # a receiver of another codec than what comes; its answer may have been ahead of the media
# How many sessions are dealt with in one go, and seconds to the next: frames of others come in between.
MISFITS_AT_ONCE, MISFITS_EVERY = 8, 0.02
ENDED_AT_ONCE, ENDED_EVERY = 8, 0.004
REPORTED_AT_ONCE, REPORTED_EVERY = 32, 0.01
FIRST_REPORT_WITHIN = 0.1  # seconds; to those of a crowd that joined since, together

Emit = Callable[[dict[str, Any]], None]


@dataclasses.dataclass(slots=True)
class Channel:
    """One channel on this worker."""

    stream: LiveStream
    peers: dict[str, Peer] = dataclasses.field(default_factory=dict)  # all but the relay's
    publisher: Peer | None = None
    relay: Relay | None = None
    newest: Peer | None = None  # the publisher that was answered last; not necessarily connected
    told_codec: VideoCodec | None = None  # what a viewer's request said is on air, until a source is here
    source_since: float = 0.0

    @property
    def codec(self) -> VideoCodec | None:
        """Of the picture that is on air, or is about to be, by the newest of what is known of it."""
        newest = self.newest
        if newest is not None and newest.state != "closed" and newest.codec is not None:
            return newest.codec
        return self.told_codec or self.stream.video.codec

    def is_misfit(self, peer: Peer, now: float) -> bool:
        """Whether it was answered with another codec than the source's, and that can be told to it.

        At once where the answer is older than the source; a younger one may be ahead of the media, a while.
        Before its DTLS is done nothing can be told: it would wait for an end that it never hears of.
        """
        if peer.sends or peer.state != "connected" or peer.codec in (None, self.stream.video.codec):
            return False
        return peer.made_at <= self.source_since or now - peer.made_at >= MISFIT_AFTER

    @property
    def viewers(self) -> int:
        """Who watches: viewers whose connection stands. A relay to another worker is none."""
        return sum(
            peer.identity.kind is SessionKind.WHEP and peer.state == "connected"
            for peer in self.peers.values()
        )


class Channels:
    """The channels of one worker by name, and the deadlines of their streams."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        role: Role,
        timers: Timers,
        sender: FanoutSender,
        emit: Emit,
        random: Callable[[int], bytes],
        counts: Counts,
    ) -> None:
        """`emit` tells the agent; what it is told is in ipc.py."""
        self._counts = counts
        self._loop = loop
        self._role = role
        self._timers = timers
        self._sender = sender
        self._emit = emit
        self._random = random
        self._channels: dict[str, Channel] = {}
        self._touched: set[LiveStream] = set()
        self._in_turn = False
        self._to_report: deque[tuple[LiveStream, list[Viewer]]] = deque()
        self._new: dict[LiveStream, list[Viewer]] = {}  # who gets a first report in a moment

    def __iter__(self) -> Iterator[Channel]:
        return iter(list(self._channels.values()))

    def get(self, channel: str) -> Channel | None:
        return self._channels.get(channel)

    def publish(self, channel: str) -> Channel:
        """The channel, made where it is new."""
        entry = self._channels.get(channel)
        if entry is None:
            entry = Channel(LiveStream(channel, self._sender, self._random))
            self._channels[channel] = entry
        return entry

    def watch(self, channel: str, kind: SessionKind) -> Channel:
        """The channel for a receiver; a viewer of an edge is what makes it there. Raises Refused."""
        if self._role is Role.EDGE and kind is SessionKind.WHEP:
            return self.publish(channel)
        entry = self._channels.get(channel)
        if entry is None:
            raise Refused(
                404, "nothing_on_air", "Nothing is on air", f"No one publishes {channel!r} to this node."
            )
        return entry

    # -- sessions that come and go

    def joined(self, peer: Peer, entry: Channel) -> None:
        """A session has been made, and is not connected yet."""
        entry.peers[peer.identity.id] = peer
        if peer.sends:
            entry.newest = peer
        self._timers.cancel(("empty", peer.identity.channel))

    def ready(self, peer: Peer, now: float) -> None:
        """A session's DTLS is done."""
        channel = peer.identity.channel
        entry = self._channels.get(channel)
        if entry is None:
            return
        if peer.identity.kind is SessionKind.RELAY_IN and entry.relay is not None:
            entry.relay.ready(peer, now)
        elif peer.identity.kind is SessionKind.WHIP:
            old, entry.publisher = entry.publisher, peer
            if old is not None and old is not peer:
                old.close(now, "replaced by a newer session of the publisher")
            self._timers.cancel(("empty", channel))
        elif peer.viewer is not None:
            self._report_first(entry.stream, peer, now)
            if entry.is_misfit(peer, now):
                self._end_misfits_at(channel, now)
        if peer.sends and peer.codec is not None:
            entry.told_codec, entry.source_since = None, now
            self._end_misfits(channel, now)

    def closed(self, peer: Peer, reason: str, now: float) -> None:
        """A session has ended."""
        identity = peer.identity
        entry = self._channels.get(identity.channel)
        if entry is None:
            return
        if identity.kind is SessionKind.RELAY_IN:
            if entry.relay is not None:
                entry.relay.closed(peer, reason, now)
            return
        entry.peers.pop(identity.id, None)
        if entry.publisher is peer:
            entry.publisher = None
        self.settle(identity.channel, now)

    # -- channels that nobody needs any more

    def settle(self, channel: str, now: float) -> None:
        """Start the clock of a channel without viewers (edge) or without a publisher (origin)."""
        entry = self._channels.get(channel)
        if entry is not None and self._unneeded(entry):
            after = LET_GO_AFTER if self._role is Role.EDGE else ORPHAN_AFTER
            self._timers.set(("empty", channel), now + after, lambda at: self._let_go(channel, at))

    def _unneeded(self, entry: Channel) -> bool:
        if self._role is Role.EDGE:
            return not entry.peers
        return not any(peer.sends for peer in entry.peers.values())

    def _let_go(self, channel: str, now: float) -> None:
        entry = self._channels.get(channel)
        if entry is not None and self._unneeded(entry):
            self.end(channel, "no viewers" if self._role is Role.EDGE else "no publisher", now)

    def end(self, channel: str, reason: str, now: float) -> bool:
        """End a channel: those who send at once, its viewers some at a time. False: there is none here.

        The next one of the same name begins without them.
        """
        entry = self._channels.get(channel)
        if entry is None:
            return False
        if entry.relay is not None:
            entry.relay.stop(now, reason)
            entry.relay = None
        for peer in [peer for peer in entry.peers.values() if peer.sends]:
            peer.close(now, reason)
        self._drop(channel)
        log.info("channel_ended", channel=channel, reason=reason)
        self._end_some(deque(entry.peers.values()), reason, now)
        return True

    def _end_some(self, peers: deque[Peer], reason: str, now: float) -> None:
        for _ in range(min(ENDED_AT_ONCE, len(peers))):
            peers.popleft().close(now, reason)
        if peers:
            again = functools.partial(self._end_some, peers, reason)
            self._timers.set(("ending", id(peers)), now + ENDED_EVERY, again)

    def end_all(self, reason: str, now: float) -> None:
        for channel in list(self._channels):
            self.end(channel, reason, now)

    def _drop(self, channel: str) -> None:
        entry = self._channels.pop(channel, None)
        self._timers.cancel(("empty", channel))
        self._timers.cancel(("misfits", channel))
        if entry is not None:
            self._timers.cancel(entry.stream)
            self._touched.discard(entry.stream)
            self._counts.stream_ended(entry.stream)
            self._emit({"ev": "dropped", "channel": channel})

    def _end_misfits(self, channel: str, now: float) -> None:
        """End the sessions of receivers of another codec than the source, some at a time."""
        entry = self._channels.get(channel)
        codec = None if entry is None else entry.stream.video.codec
        if entry is None or codec is None:
            return
        misfits = [peer for peer in entry.peers.values() if entry.is_misfit(peer, now)]
        for peer in misfits[:MISFITS_AT_ONCE]:
            peer.close(now, f"the broadcast is {codec.spoken} now")
        if len(misfits) > MISFITS_AT_ONCE:
            self._end_misfits_at(channel, now + MISFITS_EVERY)

    def _end_misfits_at(self, channel: str, at: float) -> None:
        self._timers.set(("misfits", channel), at, functools.partial(self._end_misfits, channel))

    # -- time

    def touch(self, stream: LiveStream) -> None:
        """Something was done for the stream: look at its deadlines soon."""
        if not self._touched and not self._in_turn:
            self._loop.call_soon(self.arm_touched)
        self._touched.add(stream)

    def begin_turn(self) -> None:
        """A socket begins to be read; `arm_touched` follows at the end of that."""
        self._in_turn = True

    def arm_touched(self) -> None:
        self._in_turn = False
        for stream in self._touched:
            self._arm(stream)
        self._touched.clear()

    def _arm(self, stream: LiveStream) -> None:
        entry = self._channels.get(stream.channel)
        if entry is None or entry.stream is not stream:  # its peers leave one by one, and it with the last
            return
        self._timers.set(stream, stream.next_deadline(), functools.partial(self._stream_timeout, stream))

    def _stream_timeout(self, stream: LiveStream, now: float) -> None:
        stream.handle_timeout(now)
        self._arm(stream)

    def report(self, now: float, wall: float) -> None:
        """Sender and receiver reports of every channel, once a second; `wall` is Unix time.

        To the viewers some at a time: those of a crowd take milliseconds.
        """
        self._to_report.clear()  # who did not get one of the last second gets one now
        for channel, entry in list(self._channels.items()):
            source = entry.stream.source
            if source is not None:
                source.report(now, wall)
            self._queue_reports(entry.stream, list(entry.stream.viewers.values()))
            if source is not None:
                self._end_misfits(channel, now)
        self._report_some(now)

    def _report_first(self, stream: LiveStream, peer: Peer, now: float) -> None:
        """To who has just joined; an edge tells its own viewers the time by it, and has it at once."""
        assert peer.viewer is not None
        if peer.identity.kind is SessionKind.RELAY_OUT:
            stream.report(now, [peer.viewer])
            return
        if not self._new:
            self._timers.set("first reports", now + FIRST_REPORT_WITHIN, self._report_new)
        self._new.setdefault(stream, []).append(peer.viewer)

    def _report_new(self, now: float) -> None:
        for stream, viewers in self._new.items():
            self._queue_reports(stream, viewers)
        self._new.clear()
        self._report_some(now)

    def _queue_reports(self, stream: LiveStream, viewers: list[Viewer]) -> None:
        for first in range(0, len(viewers), REPORTED_AT_ONCE):
            self._to_report.append((stream, viewers[first : first + REPORTED_AT_ONCE]))

    def _report_some(self, now: float) -> None:
        told = 0
        while self._to_report and told < REPORTED_AT_ONCE:
            stream, viewers = self._to_report.popleft()
            stream.report(now, viewers)
            told += len(viewers)
        if self._to_report:
            self._timers.set("some reports", now + REPORTED_EVERY, self._report_some)
