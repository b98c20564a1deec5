"""One peer of a worker: a session of the core, tied to a socket and to its part in a live stream."""

from dataclasses import dataclass
from typing import Protocol

from controlplane.wire.nodes import SessionKind
from media.core import rtcp
from media.core.address import spelled, transport
from media.core.codecs import VideoCodec
from media.core.sdp import Agreed, StreamDescription
from media.core.session import (
    Address,
    Closed,
    Connected,
    DtlsReady,
    RemoteChanged,
    RtcpPacket,
    RtpPacket,
    RtpRun,
    Session,
    Transmit,
)
from media.drive.ways import Endpoint
from media.fanout.destinations import Destination
from media.fanout.source import Source
from media.fanout.stream import LiveStream
from media.fanout.viewer import Viewer

BINDING_REQUEST = b"\x00\x01"
CONTEST_S = 0.5  # a round trip, and some


class Owner(Protocol):
    """What a peer tells the engine that owns it."""

    def peer_bound(self, peer: "Peer", address: Address, now: float) -> None:
        """ICE has validated an address of the peer."""

    def peer_asked(self, peer: "Peer", datagram: bytes) -> None:
        """The peer was sent a STUN request: its answer may come from anywhere."""

    def peer_speaks(self, peer: "Peer") -> None:
        """The peer's media came with another SSRC than before."""

    def peer_ready(self, peer: "Peer", now: float) -> None:
        """DTLS is done; the peer has its source or viewer by now."""

    def peer_closed(self, peer: "Peer", reason: str, now: float) -> None: ...

    def peer_stirred(self, peer: "Peer") -> None:
        """The next moment of its session may be sooner than it was."""

    def stream_stirred(self, stream: LiveStream) -> None:
        """The next deadline of its stream may be sooner than it was."""


@dataclass(slots=True, frozen=True)
class Identity:
    id: str
    kind: SessionKind
    channel: str
    ufrag: str


class Peer:
    """See the module's docstring. After each call that may change something the owner is told."""

    def __init__(
        self,
        identity: Identity,
        session: Session,
        agreed: Agreed,
        stream: LiveStream,
        description: StreamDescription | None,
        endpoint: Endpoint,
        owner: Owner,
        now: float,
    ) -> None:
        """`description` is what a receiving peer was told of the stream; None for one that sends to us."""
        self.identity = identity
        self.session = session
        self.agreed = agreed
        self.stream = stream
        self.endpoint = endpoint
        self.source: Source | None = None
        self.viewer: Viewer | None = None
        self.state = "new"
        self.where: str | None = None  # the address we send to, for people, once there is one
        self.transport: str | None = None  # by what it is reached there
        self._speakers = 0  # of the session's, so many has the owner been told of
        self.made_at = now
        self.reached_at: float | None = None  # when ICE first had an address that works
        self.ready_at: float | None = None  # when DTLS was done
        self.given_up = False  # we were told to close it, or another took its place
        self._contested_at: float | None = None  # its address was named by another session
        self._description = description
        self._owner = owner

    @property
    def codec(self) -> VideoCodec | None:
        """Of its picture; None when it has none."""
        return None if self.agreed.video is None else self.agreed.video.codec

    @property
    def sends(self) -> bool:
        """Whether media comes from it."""
        return self._description is None

    def holds(self, address: Address, now: float) -> bool:
        """Whether it is still at an address that another session names as its own.

        That may be a lie, or the address may have come to somebody else since we last heard: so the peer is
        asked, and holds on to the address if it answers within CONTEST_S.
        """
        age = self.session.stats(now).heard_age
        if self.state != "connected" or self.session.remote != address or age is None:
            return False
        since = self._contested_at
        if since is not None and now - age <= since:  # it has not answered yet
            return now - since < CONTEST_S
        if (since is None or now - since >= CONTEST_S) and self.session.ask(now):
            self._contested_at = now
            self._pump(now)
        return True

    def receive_check(self, datagram: bytes, source: Address, now: float) -> bool:
        """Take a STUN datagram from where we send to, if it is a check as they come all the time.

        False, and nothing was done: it is anything else, hand it to whom it names.
        """
        answer = self.session.receive_check(datagram, source, now)
        if answer is None:
            return False
        if answer:
            self.endpoint.send(answer, source)
        return True

    def receive(self, datagram: bytes, source: Address, now: float) -> None:
        session = self.session
        first = datagram[0] if datagram else 255
        if 128 <= first <= 191:
            event = session.receive_media(datagram, source, now)
            if event is None:
                return
            self._heard(event, now)
            if session.pending:
                self._pump(now)
            else:
                self._look_about()
            return
        session.receive(datagram, source, now)
        if first < 4 and session.is_valid(source):
            self._owner.peer_bound(self, source, now)  # by this datagram, or again
        self._pump(now)

    def receive_run(self, data: memoryview, stride: int, source: Address, now: float) -> bool:
        """See `Session.receive_run`."""
        taken = self.session.receive_run(data, stride, source, now)
        if taken:
            self._pump(now)
        return taken

    def receive_stray(self, datagram: bytes, source: Address, now: float) -> bool:
        """See `Session.receive_stray`."""
        taken = self.session.receive_stray(datagram, source, now)
        if taken:
            self._pump(now)
        return taken

    def lost(self, address: Address, now: float) -> None:
        """This address's TCP connection has closed."""
        self.session.lost(address, now)
        self._pump(now)

    def handle_timeout(self, now: float) -> None:
        self.session.handle_timeout(now)
        self._pump(now)

    def send_rtcp(self, packets: list[rtcp.RtcpPacket], now: float) -> None:
        self.session.send_rtcp(packets, now)
        self._pump(now)

    def close(self, now: float, reason: str) -> None:
        self.given_up = True
        self.session.close(now, reason)
        self._pump(now)

    def start(self, now: float) -> None:
        """Let a new session say what it has to say first (the checks of a controlling one)."""
        self._pump(now)

    def _pump(self, now: float) -> None:
        """Do what the session says until it has nothing more to say."""
        poll = self.session.poll
        while (item := poll()) is not None:
            if isinstance(item, RtpRun):
                if self.source is not None:
                    self.source.receive_run(item.run, now)
            elif isinstance(item, Transmit):
                if item.data[:2] == BINDING_REQUEST:
                    self._owner.peer_asked(self, item.data)
                self.endpoint.send(item.data, item.to)
            elif isinstance(item, RtpPacket | RtcpPacket):
                self._heard(item, now)
            elif isinstance(item, Connected | RemoteChanged):
                if self.state == "new":
                    self.state = "connecting"
                    self.reached_at = now
                self.where, self.transport = spelled(item.remote), transport(item.remote)
                self._owner.peer_bound(self, item.remote, now)
                if self.viewer is not None:
                    self.stream.move(self.viewer, self.endpoint.where(item.remote))
                    # What was sent to the old address is lost: only a key frame makes a picture again.
                    self.stream.feedback(self.viewer, [rtcp.Pli(0, self.stream.video.ssrc)], now)
            elif isinstance(item, DtlsReady):
                self._ready(item, now)
            elif isinstance(item, Closed):
                self._leave()
                self.state = "closed"
                self._owner.peer_closed(self, item.reason, now)
        self._look_about()

    def _heard(self, event: RtpPacket | RtcpPacket, now: float) -> None:
        """Something authentic of the peer's media."""
        source = self.source
        if isinstance(event, RtcpPacket):
            if source is not None:
                source.receive_rtcp(event.packets, now)
            elif self.viewer is not None:
                self.stream.feedback(self.viewer, event.packets, now)
        elif source is not None:
            source.receive_rtp(event.data, now)

    def _look_about(self) -> None:
        """Tell the owner what may have come of what was done."""
        session = self.session
        if len(session.speakers) != self._speakers:
            self._speakers = len(session.speakers)
            self._owner.peer_speaks(self)
        if session.stirred:
            self._owner.peer_stirred(self)
        if self.stream.stirred:
            self._owner.stream_stirred(self.stream)

    def _ready(self, event: DtlsReady, now: float) -> None:
        self.state = "connected"
        self.ready_at = now
        if self._description is None:
            video, audio = self.agreed.video, self.agreed.audio
            self.source = Source(
                ssrc=self.stream.own_ssrc,
                video=None if video is None else (video, self.stream.video),
                audio=None if audio is None else (audio, self.stream.audio),
                send=self.send_rtcp,
                remb=self.identity.kind is SessionKind.WHIP,
            )
            self.stream.set_source(self.source)
        elif self.session.remote is not None:
            destination = Destination(event.outbound, self.endpoint.where(self.session.remote))
            self.viewer = self.stream.join(
                self.identity.id,
                self.agreed,
                self._description,
                destination,
                may_repeat=self.session.config.allow_repeat_tx,
                now=now,
            )
        self._owner.peer_ready(self, now)

    def _leave(self) -> None:
        if self.viewer is not None:
            self.stream.leave(self.identity.id)
        if self.source is not None and self.stream.source is self.source:
            self.stream.set_source(None)
        # They know us: a circle, and what is in one is only given back when the collector comes by.
        self.viewer = self.source = None
