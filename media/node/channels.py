"""The channels of a worker: who is on each, where its media comes from, and what becomes of it.

A channel is there from its first session on. It is let go when nobody needs it any more: on an edge 5 s after
its last viewer, on an origin 30 s after its publisher. Receivers whose answer is for another codec than what
the source sends are its misfits, and are ended, some at a time (docs/decisions/0012).

Nothing here knows of sockets or offers: the engine says who came, who is ready and who has gone.
"""

import asyncio
import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

import structlog

from controlplane.wire.nodes import Role, SessionKind
from media.core.codecs import VideoCodec
from media.drive.timers import Timers
from media.fanout.sender import FanoutSender
from media.fanout.stream import LiveStream
from media.node.errors import Refused
from media.node.peer import Peer
from media.node.relay import Relay

log = structlog.get_logger(__name__)

LET_GO_AFTER = 5.0  # an edge's relay, once the last viewer has left
ORPHAN_AFTER = 30.0  # an origin's stream without a publisher, should the manager not end it before
MISFIT_AFTER = 5.0  # a receiver of another codec than what comes; its answer may have been ahead of the media
MISFITS_AT_ONCE, MISFITS_EVERY = 8, 0.02  # sessions that end in one go: frames of others do not wait for it

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
    ) -> None:
        """`emit` tells the agent; what it is told is in ipc.py."""
        self._loop = loop
        self._role = role
        self._timers = timers
        self._sender = sender
        self._emit = emit
        self._random = random
        self._channels: dict[str, Channel] = {}
        self._touched: set[LiveStream] = set()

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
            entry.stream.report(now, peer.viewer)
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
        """End every session of a channel; False when there is no such channel here."""
        entry = self._channels.get(channel)
        if entry is None:
            return False
        if entry.relay is not None:
            entry.relay.stop(now, reason)
            entry.relay = None
        for peer in list(entry.peers.values()):
            peer.close(now, reason)
        self._drop(channel)
        log.info("channel_ended", channel=channel, reason=reason)
        return True

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
        self._touched.add(stream)
        if len(self._touched) == 1:
            self._loop.call_soon(self.arm_touched)

    def arm_touched(self) -> None:
        for stream in self._touched:
            self._arm(stream)
        self._touched.clear()

    def _arm(self, stream: LiveStream) -> None:
        self._timers.set(stream, stream.next_deadline(), functools.partial(self._stream_timeout, stream))

    def _stream_timeout(self, stream: LiveStream, now: float) -> None:
        stream.handle_timeout(now)
        self._arm(stream)

    def report(self, now: float, wall: float) -> None:
        """Sender and receiver reports of every channel, once a second; `wall` is Unix time."""
        for channel, entry in list(self._channels.items()):
            source = entry.stream.source
            if source is not None:
                source.report(now, wall)
            entry.stream.report(now)
            if source is not None:
                self._end_misfits(channel, now)
