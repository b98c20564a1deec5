"""One WebRTC peer, sans-IO: datagrams and moments in; datagrams, events and a next moment out.

A session joins ICE (who may speak), DTLS (which keys) and SRTP (what was said). It opens no socket, reads
no clock and starts no task: `now` is a number of seconds on any steady clock of the caller's.

The rule, once: **after every `receive`, `handle_timeout`, `send_rtcp` and `close`, call `poll()` until it
returns None, then ask `next_timeout()`** and call `handle_timeout(now)` when that moment has come. Media and
reports only ever put that moment off, so whoever has many sessions need not ask while `stirred` is False.

Order of trust (RFC 8445, 5764, 3711): a STUN request must carry our ufrag and a MESSAGE-INTEGRITY made with
our password before anything changes; DTLS, SRTP and SRTCP are only looked at from an address such a request
validated; the peer's certificate must match a fingerprint of its SDP before keys exist; a packet must
authenticate before it counts; media only goes where something of ours is known to have arrived (ice.py). What
fails is dropped without an answer.

A peer whose NAT gives it another address speaks from one that is not valid yet. Its media may be handed to
`receive_stray`: what authenticates counts, and makes us ask whether the peer has moved (see `following`).

The hot path stays out of here: whoever fans out takes `outbound` and `remote` and sends by itself.
"""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Self

from media.core import rtcp, sdp
from media.core.address import Address as Address
from media.core.certificate import Certificate
from media.core.dtls import DtlsEndpoint, Role
from media.core.errors import DtlsError, IntegrityError, ParseError, SrtpError
from media.core.ice import IceAgent, IceControlling, IceLite, IceState
from media.core.rtp import is_rtcp
from media.core.runs import PlainRun, parse_run
from media.core.srtp import InboundSrtp, Maker, OutboundSrtp, SrtpKeys

PARTED = "the peer closed the connection"
PARTING_PATIENCE = 4.0  # seconds; and whoever is still there says so when it is asked
PARTING_QUESTIONS = (0.5, 1.5, 2.5)  # seconds after a good-bye: not at once, the peer may be about to close


@dataclass(frozen=True, slots=True)
class Transmit:
    """Send this datagram."""

    data: bytes
    to: Address


@dataclass(frozen=True, slots=True)
class Connected:
    """ICE has an address that works; DTLS follows."""

    remote: Address


@dataclass(frozen=True, slots=True)
class DtlsReady:
    """The handshake is done and the peer is who its SDP said: media may flow both ways."""

    outbound: OutboundSrtp


@dataclass(frozen=True, slots=True)
class RtpPacket:
    """An authenticated RTP packet, in plaintext."""

    data: bytes


@dataclass(frozen=True, slots=True)
class RtpRun:
    """Authenticated RTP packets that came in one read and belong together; see `Session.receive_run`."""

    run: PlainRun


@dataclass(frozen=True, slots=True)
class RtcpPacket:
    """An authenticated RTCP compound, parsed."""

    packets: list[rtcp.RtcpPacket]


@dataclass(frozen=True, slots=True)
class RemoteChanged:
    """The peer moved to another validated address: send there from now on."""

    remote: Address


@dataclass(frozen=True, slots=True)
class Closed:
    """The session is over; no event follows, and nothing may be sent. `reason` is a phrase for people."""

    reason: str


Event = Connected | DtlsReady | RtpPacket | RtpRun | RtcpPacket | RemoteChanged | Closed


@dataclass(frozen=True, slots=True)
class SessionConfig:
    """All a session needs to know; see `answered` and `offered` for the two usual ways to fill it."""

    certificate: Certificate
    credentials: sdp.IceCredentials  # ours
    remote: sdp.RemoteTransport
    controlling: bool  # False: ICE-lite
    dtls_role: Role
    random: Callable[[int], bytes]  # random(n) gives n bytes fit for secrets (os.urandom)
    establish_timeout: float = 15.0  # seconds from the start until DTLS must be done
    consent_timeout: float = 30.0  # RFC 7675: silence after which nothing more is sent
    allow_repeat_tx: bool = False  # see srtp.py; only for peers without RTX
    outbound_made: Maker | None = None  # see srtp.OutboundSrtp

    @classmethod
    def answered(
        cls,
        agreed: sdp.Agreed,
        local: sdp.LocalDescription,
        certificate: Certificate,
        random: Callable[[int], bytes],
        **more: Any,
    ) -> Self:
        """For whoever answered an offer (WHIP, WHEP, relay_out): ICE-lite, DTLS as the answer says."""
        return cls(certificate, local.credentials, agreed.remote, False, agreed.dtls_role, random, **more)

    @classmethod
    def offered(
        cls,
        agreed: sdp.Agreed,
        local: sdp.LocalDescription,
        certificate: Certificate,
        random: Callable[[int], bytes],
        **more: Any,
    ) -> Self:
        """For whoever offered and got an answer (relay_in): controlling ICE."""
        return cls(certificate, local.credentials, agreed.remote, True, agreed.dtls_role, random, **more)


@dataclass(frozen=True, slots=True)
class SessionStats:
    """Figures of one session; counts are since its start."""

    rtt: float | None  # seconds, of the last ICE check (controlling side); None elsewhere
    heard_age: float | None  # seconds since anything authentic came; None before that
    datagrams_in: int
    datagrams_dropped: int  # the sum of Drops


@dataclass(slots=True)
class Drops:
    """Datagrams of one session that were not looked at any further, by why."""

    unauthentic: int = 0  # STUN, SRTP or SRTCP that was not made with the session's keys
    replayed: int = 0  # SRTP or SRTCP that was here before, or is so old that it may have been
    malformed: int = 0  # authentic, and yet no RTCP; or of more SSRCs than a peer may have
    unvalidated: int = 0  # media or DTLS from an address that ICE has not validated, or before its time

    def by_srtp(self, code: int) -> None:
        """One that libsrtp refused; see `SrtpError.code`."""
        if code in (SrtpError.REPLAYED, SrtpError.TOO_OLD):
            self.replayed += 1
        elif code == SrtpError.AUTHENTICATION:
            self.unauthentic += 1
        else:
            self.malformed += 1

    def total(self) -> int:
        return self.unauthentic + self.replayed + self.malformed + self.unvalidated


class Session:
    """One peer. Not thread-safe; see the module's docstring for the rule of use."""

    def __init__(self, config: SessionConfig, now: float) -> None:
        self.config = config
        self.outbound: OutboundSrtp | None = None  # set before DtlsReady is polled
        self.inbound: InboundSrtp | None = None
        self._unsettled: OutboundSrtp | None = None  # made, and nobody knows yet where its packets would go
        self.remote: Address | None = None  # where to send; None before Connected and after Closed
        self.closed = False
        self.stirred = True  # the next moment may be sooner than when it was last asked for
        self.ice_generation = 0  # restarts since the offer
        self.speakers: set[bytes] = set()  # what `inbound` calls sources
        self._ice = self._make_ice(config, now)
        self._dtls = DtlsEndpoint(config.certificate, config.dtls_role, config.remote.fingerprints)
        self._queue: deque[Transmit | Event] = deque()
        # Of its own, for what is done with each packet: to look at the configuration would be a cache miss.
        self._controlling = config.controlling
        self._consent = config.consent_timeout
        self._deadline = now + config.establish_timeout  # until DTLS is done, then that of consent
        self._heard: float | None = None
        self._parting_at: float | None = None  # the peer seems to have said good-bye, and is not heard since
        self._questions = 0  # asked since then
        self._flights_to: Address | None = None  # of our DTLS flights
        self._scattered = False  # they went to more than one address
        self._media_heard = False
        self._received = 0
        self.drops = Drops()

    @staticmethod
    def _make_ice(config: SessionConfig, now: float) -> IceAgent:
        remote = config.remote
        if config.controlling:
            return IceControlling(
                config.credentials, remote.credentials, remote.candidates, config.random, now
            )
        return IceLite(config.credentials, remote.credentials, config.random)

    def receive(self, datagram: bytes, source: Address, now: float) -> None:
        """Take one datagram that the driver's demux believes to be for this session. Never raises."""
        if self.closed:
            return
        first = datagram[0] if datagram else 255
        if 128 <= first <= 191:
            place = len(self._queue)
            event = self.receive_media(datagram, source, now)
            if event is not None:
                self._queue.insert(place, event)  # before what it gave cause to say
            return
        self._received += 1
        if first < 4:
            if self._ice.receive(datagram, source, now):
                if self._ice.last_heard == now:
                    self._hear(now)
                self._follow_ice(now)
            else:
                self.drops.unauthentic += 1
        elif 20 <= first <= 63 and self._ice.is_valid(source):
            self._ice.use(source, len(datagram))
            self._follow_ice(now)
            self._drive_dtls(lambda: self._dtls.receive(datagram, now), now)
        else:
            self.drops.unvalidated += 1

    def receive_check(self, datagram: bytes, source: Address, now: float) -> bytes | None:
        """Take a check that only says that the peer is still there: the short way for nearly all of them.

        Returns what to send to `source`, and there is nothing to poll; empty where it was not authentic.
        None, and nothing was done: it is anything else, hand it to `receive`. Never raises.
        """
        if self.closed:
            return None
        try:
            answer = self._ice.again(datagram, source, now)
        except IntegrityError:
            self._received += 1
            self.drops.unauthentic += 1
            return b""
        if answer is not None:
            self._received += 1
            self._hear(now)
        return answer

    def receive_media(self, datagram: bytes, source: Address, now: float) -> RtpPacket | RtcpPacket | None:
        """Take media (first byte 128 to 191), and give at once what it brings: the short way for most of it.

        None where it was dropped. `pending` says whether there is something to poll as well. Never raises.
        """
        if self.closed:
            return None
        self._received += 1
        if self.inbound is None or not self._ice.is_valid(source):
            self.drops.unvalidated += 1
            return None
        event = self._open_media(datagram, self.drops)
        if event is not None:
            self._speak(source, now)
        return event

    def receive_run(self, data: memoryview, stride: int, source: Address, now: float) -> bool:
        """Take datagrams that came in one read, `stride` bytes apart, if they are a run of media (`runs`).

        False: they are not, or nothing came with their SSRC yet, and nothing was done: hand them over one by
        one. Otherwise the packets were decrypted in `data`, which is writable, and what `poll` gives of them
        is there: poll before it is read into again. Never raises.
        """
        inbound = self.inbound
        if inbound is None or not self._ice.is_valid(source):
            return False
        header = parse_run(data, stride)
        if header is None or not inbound.knows(header.ssrc):
            return False
        said = inbound.unprotect_run(data, stride, header.packets)
        tag = inbound.tag_length
        self._received += header.packets
        if not any(said):
            self._queue.append(RtpRun(PlainRun(header, data, stride, tag)))
        else:
            for number, word in enumerate(said):
                if word:
                    self.drops.by_srtp(word)
                else:
                    packet = data[number * stride : (number + 1) * stride]
                    self._queue.append(RtpPacket(bytes(packet[: len(packet) - tag])))
        if not all(said):
            self._speak(source, now)
        return True

    def receive_stray(self, datagram: bytes, source: Address, now: float) -> bool:
        """Media from an address that is not valid, which may be this peer's; True when it is. Never raises.

        Nothing but SRTP and SRTCP that authenticates is taken, each packet once. It is no sign of consent:
        it does not say that the peer receives what we send.
        """
        if self.closed or self.inbound is None or not isinstance(self._ice, IceLite):
            return False
        if not datagram or not 128 <= datagram[0] <= 191:
            return False
        event = self._open_media(datagram, Drops())
        if event is None:
            return False
        self._queue.append(event)
        self._received += 1
        self._ice.stray(source, now)
        self._follow_ice(now)
        return True

    def restart_ice(self, local: sdp.IceCredentials, remote: sdp.IceCredentials) -> None:
        """The peer restarts ICE (RFC 8445 section 9): take these credentials too. DTLS and SRTP go on.

        The pair before stays good until the first authentic check under the new one. Only a lite session can
        be restarted; the caller knows. A second restart before any check takes the place of the first.
        """
        if not isinstance(self._ice, IceLite):
            raise ValueError("only the answering, lite side restarts ICE")
        self._ice.restart(local, remote)
        self.ice_generation += 1

    @property
    def dtls(self) -> DtlsEndpoint:
        """For whoever looks; it is driven from here alone."""
        return self._dtls

    def ice_state(self, now: float) -> IceState:
        return self._ice.state(now)

    @property
    def parting(self) -> bool:
        """Whether the peer seems to have said good-bye, and was not heard since."""
        return self._parting_at is not None

    @property
    def consent_ends_at(self) -> float:
        """When the session ends, if nothing is heard of the peer until then."""
        return self._deadline

    @property
    def credentials(self) -> tuple[tuple[sdp.IceCredentials, sdp.IceCredentials], ...]:
        """(ours, theirs) that checks may come with: what is in use first, then a restart under way."""
        return tuple((pair.local, pair.remote) for pair in self._ice.pairs)

    def is_valid(self, address: Address) -> bool:
        """Whether ICE has validated this address."""
        return not self.closed and self._ice.is_valid(address)

    def lost(self, address: Address, now: float) -> None:
        """This address's TCP connection has closed. What is sent goes to another valid address of the peer's,
        if it has one; else the peer may come back by a new connection until its consent runs out."""
        if not self.closed:
            self._ice.lost(address, now)
            self._follow_ice(now)

    def handle_timeout(self, now: float) -> None:
        """The moment of `next_timeout()` has come (calling early does no harm)."""
        if self.closed:
            return
        self.stirred = True  # a moment that has come needs one after it
        if now >= self._deadline:
            self._close(self._why_late())
            return
        ask_at = self._ask_at()
        if ask_at is not None and now >= ask_at:
            self._questions += 1
            self._ice.ask(now)
        self._ice.handle_timeout(now)
        self._follow_ice(now)
        if self._ice.failed:
            self._close("no address of the peer answered")
            return
        if not self._dtls.done:
            self._drive_dtls(lambda: self._dtls.handle_timeout(now), now)

    @property
    def pending(self) -> bool:
        """Whether `poll` has something to give."""
        return bool(self._queue)

    def poll(self) -> Transmit | Event | None:
        """The next thing to do or to know, in order; None when there is none left."""
        return self._queue.popleft() if self._queue else None

    def next_timeout(self) -> float | None:
        """When to call `handle_timeout`; None once closed. Nothing is stirred any more."""
        self.stirred = False
        if self.closed:
            return None
        moment = self._deadline
        for sooner in (self._ask_at(), self._ice.next_timeout(), self._dtls.next_timeout()):
            if sooner is not None and sooner < moment:
                moment = sooner
        return moment

    def send_rtcp(self, packets: Iterable[rtcp.RtcpPacket] | bytes, now: float) -> None:
        """Queue one compound, protected, to the peer; dropped while DTLS is not done."""
        if self.outbound is None or self.remote is None:
            return
        compound = packets if isinstance(packets, bytes) else rtcp.build_compound(packets)
        if compound:
            self._queue.append(Transmit(self.outbound.protect_rtcp(compound), self.remote))

    def ask(self, now: float) -> bool:
        """Have the peer show that it is still there: if it is, `stats` tells of it a round trip later.

        False: it was not asked, as it has just been.
        """
        asked = not self.closed and self._ice.ask(now)
        if asked:
            self._follow_ice(now)
        return asked

    def close(self, now: float, reason: str = "closed") -> None:
        """End it: a DTLS close_notify goes out, then `Closed(reason)`. Closing twice does nothing."""
        self._close(reason)

    @property
    def rtt(self) -> float | None:
        """Seconds, of the last ICE check (controlling side); None elsewhere."""
        return self._ice.rtt

    def stats(self, now: float) -> SessionStats:
        return SessionStats(
            rtt=self.rtt,
            heard_age=None if self._heard is None else now - self._heard,
            datagrams_in=self._received,
            datagrams_dropped=self.drops.total(),
        )

    def _speak(self, source: Address, now: float) -> None:
        """Something authentic came from this valid address."""
        # Towards a lite agent, what authenticates is as good a sign of life as a check. A controlling one has
        # checks of its own to go by (RFC 7675 section 5.1).
        if not self._controlling:
            self._ice.heard(source, now)
            self._hear(now)
            if self._ice.outgoing or self._ice.selected != self.remote:
                self._follow_ice(now)

    def _open_media(self, datagram: bytes, drops: Drops) -> RtpPacket | RtcpPacket | None:
        """What an SRTP or SRTCP packet says; None, and counted in `drops`, where it is not authentic."""
        inbound = self.inbound
        assert inbound is not None
        event: RtpPacket | RtcpPacket
        try:
            if is_rtcp(datagram):
                event = RtcpPacket(rtcp.parse_compound(inbound.unprotect_rtcp(datagram)))
            else:
                event = RtpPacket(inbound.unprotect(datagram))
        except ParseError:
            drops.malformed += 1
            return None
        except SrtpError as error:
            drops.by_srtp(error.code)
            return None
        if not self._media_heard:
            self._media_heard = True
            self._dtls.heard()
        return event

    def _hear(self, now: float) -> None:
        self._heard = now
        self._parting_at = None
        if self.inbound is not None:  # DTLS is done
            self._deadline = now + self._consent

    def _ask_at(self) -> float | None:
        """When to ask a peer that seems to have gone whether it has."""
        if self._parting_at is None or self._questions >= len(PARTING_QUESTIONS):
            return None
        return self._parting_at + PARTING_QUESTIONS[self._questions]

    def _follow_ice(self, now: float) -> None:
        """Pass on what ICE wants sent, and where it now points."""
        outgoing = self._ice.outgoing
        while outgoing:
            self._queue.append(Transmit(*outgoing.popleft()))
        if self._ice.next_timeout() is not None:
            self.stirred = True
        selected = self._ice.selected
        if selected is not None and selected != self.remote:
            first, self.remote = self.remote is None, selected
            if first:
                self._queue.append(Connected(selected))
                self._drive_dtls(lambda: self._dtls.start(now), now)
            else:
                self._queue.append(RemoteChanged(selected))
        if self._unsettled is not None and self._ice.reached:
            self.outbound, self._unsettled = self._unsettled, None
            self._queue.append(DtlsReady(self.outbound))

    def _drive_dtls(self, step: Callable[[], None], now: float) -> None:
        self.stirred = True
        failure: str | None = None
        try:
            step()
        except DtlsError as error:
            failure = str(error)
        self._flush_dtls()
        if failure is not None:
            self._close(failure)
        elif self._dtls.closed:
            self._close(PARTED)
        elif self.inbound is None and self._dtls.keys is not None:
            self._open(self._dtls.keys, now)
        if self._dtls.parting:
            self._dtls.parting = False
            if self._parting_at is None:
                self._parting_at, self._questions = now, 0
            self._deadline = min(self._deadline, now + PARTING_PATIENCE)

    def _open(self, keys: SrtpKeys, now: float) -> None:
        """The handshake is done: take media, and give some as soon as it is known where it arrives."""
        self.inbound = InboundSrtp(keys)
        self.speakers = self.inbound.sources
        self._unsettled = OutboundSrtp(
            keys, allow_repeat=self.config.allow_repeat_tx, made=self.config.outbound_made
        )
        self._hear(now)
        self._ice.settle(now, reached=self._flights_to == self.remote and not self._scattered)
        self._follow_ice(now)

    def _flush_dtls(self) -> None:
        remote = self.remote
        if remote is None:
            return
        for datagram in self._dtls.outgoing():
            if not self._ice.afford(len(datagram)):
                continue  # its timer, or more of the peer's, brings it back
            self._scattered |= self._flights_to not in (None, remote)
            self._flights_to = remote
            self._queue.append(Transmit(datagram, remote))

    def _why_late(self) -> str:
        if self._parting_at is not None:
            return PARTED
        if self._dtls.done:
            return f"the peer vanished: it gave no sign of consent for {self.config.consent_timeout:g} s"
        if self.remote is None:
            return "no address of the peer was validated in time"
        return "the DTLS handshake took too long"

    def _close(self, reason: str) -> None:
        if self.closed:
            return
        self.stirred = True
        self._dtls.close()
        self._flush_dtls()
        self.closed = True
        self.outbound = self._unsettled = self.inbound = self.remote = None
        self._queue.append(Closed(reason))
