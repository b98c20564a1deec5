"""A worker's inside: sessions, live streams and relays over one UDP socket, and over TCP for those whose
network blocks UDP. No knowledge of the agent's pipe.

    publisher --WHIP--> origin's stream --relay_out/relay_in--> edge's stream --WHEP--> viewers

Both roles are this one class; what differs is where a channel's media may come from. On an origin it is a
publisher's session; on an edge it is a relay, made when the first viewer comes and let go 5 s after the last.

A channel has one video codec at a time, its publisher's. A receiver is answered with it also before the media
is here (docs/decisions/0002, 0012); whose answer turns out to be for another codec is sent nothing, and its
session is ended, so that it makes a new one.
"""

import asyncio
import dataclasses
import functools
import os
import socket
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import structlog

from controlplane.wire.nodes import Role, SessionKind, SessionPatch, ice_etag
from media.core.address import Address, TcpAddress
from media.core.certificate import Certificate
from media.core.codecs import VideoCodec, video_codec
from media.core.errors import NegotiationError
from media.core.sdp import (
    Agreed,
    IceCredentials,
    LocalDescription,
    answer_publisher,
    answer_viewer,
    new_credentials,
    parse_fragment,
    parse_offer,
    restart_fragment,
)
from media.core.session import Session, SessionConfig
from media.core.stun import transaction
from media.drive.demux import Demux
from media.drive.handover import marked
from media.drive.tcp import TcpEndpoint
from media.drive.timers import Timers
from media.drive.udp import UdpEndpoint, bind
from media.drive.ways import Ways
from media.fanout.stream import LiveStream
from media.node import figures
from media.node.peer import CONTEST_S, Identity, Peer
from media.node.relay import Relay

log = structlog.get_logger(__name__)

LET_GO_AFTER = 5.0  # an edge's relay, once the last viewer has left
RECEIVER_SILENCE = 15.0  # a browser is heard each second, others each 5 s: three times that, and it is gone
ORPHAN_AFTER = 30.0  # an origin's stream without a publisher, should the manager not end it before
MISFIT_AFTER = 5.0  # a receiver of another codec than what comes; its answer may have been ahead of the media
MISFITS_AT_ONCE, MISFITS_EVERY = 8, 0.02  # sessions that end in one go: frames of others do not wait for it
JOINING_MAX = 400  # publishers and viewers whose handshake is not done: 65 kB each, 150 kB at the worst
REPORT_EVERY = 1.0  # sender and receiver reports
PROBE_EVERY = 0.05  # of the loop's delay
STRAYS_A_SECOND = 400  # datagrams of unknown origin that are tried on the sessions they may be of
CONNECTIONS = 4096  # over TCP; a worker that may have fewer descriptors says so

Emit = Callable[[dict[str, Any]], None]


class Refused(Exception):
    """A request that cannot be served; the fields of wire.Problem."""

    def __init__(self, status: int, code: str, title: str, detail: str = "") -> None:
        super().__init__(detail or title)
        self.problem = {"status": status, "code": code, "title": title, "detail": detail}


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


class Engine:
    """See the module's docstring. All calls from the event loop's thread."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        role: Role,
        sock: socket.socket,
        addresses: list[str],
        emit: Emit,
        random: Callable[[int], bytes] = os.urandom,
        *,
        listener: socket.socket | None = None,
        shared: socket.socket | None = None,
        connections: int = CONNECTIONS,
    ) -> None:
        """`listener` and `shared` take TCP connections: on the number of the UDP port, and on one that other
        workers of this machine share. `connections` is how many of them there may be.

        Raises PortError when another process passes itself off as this worker on the shared port.
        """
        self._loop = loop
        self._role = role
        self._addresses = addresses
        self._emit = emit
        self._random = random
        self._dual_stack = sock.family == socket.AF_INET6
        self.certificate = Certificate.generate(datetime.now(UTC))
        self.timers = Timers(loop)
        self.endpoint = UdpEndpoint(loop, sock, self._datagram, self._drained)
        self.tcp = TcpEndpoint(loop, self.timers, self._datagram, self._drained, self._lost, most=connections)
        if listener is not None:
            self.tcp.add(listener)
        if shared is not None:
            self.tcp.add(shared, shared_by=(os.geteuid(), self.endpoint.port))
        self._ways = Ways(self.endpoint, self.tcp)
        self._demux: Demux[Peer] = Demux()
        self._peers: dict[str, Peer] = {}
        self._joining: set[str] = set()  # publishers and viewers that are not connected yet
        self._channels: dict[str, Channel] = {}
        self._touched: set[LiveStream] = set()
        self._endpoints: list[UdpEndpoint] = [self.endpoint]  # relays' too, while open
        self._closed_bytes = [0, 0]  # sent and received by endpoints that are closed
        self._meter = figures.Meter()
        self._session_meter = figures.Meter()
        self._strays_left = STRAYS_A_SECOND  # until the next reports
        self._loop_delay = 0.0
        self._probe_due = loop.time() + PROBE_EVERY
        self.timers.set("reports", loop.time() + REPORT_EVERY, self._send_reports)
        self._probe = loop.call_at(self._probe_due, self._measure_delay)

    # -- sessions, as the agent asks for them

    def create(
        self, session_id: str, kind: SessionKind, channel: str, offer: str, codec: str | None = None
    ) -> Agreed:
        """Make a session from an offer; returns the answer and what is in it. Raises Refused.

        `codec` is the name of what is on air, for a receiver, where the stream manager knows it.
        """
        if session_id in self._peers:
            raise Refused(409, "session_exists", "This session exists already", session_id)
        if kind is SessionKind.WHIP and self._role is Role.EDGE:
            raise Refused(422, "wrong_role", "An edge takes no publishers", "Publish to an origin instead.")
        if kind is not SessionKind.RELAY_OUT and len(self._joining) >= JOINING_MAX:
            raise Refused(
                503, "too_many_joining", "Too many are joining at once", "Try again in a second or two."
            )
        now = self._loop.time()
        try:
            parsed = parse_offer(offer)
            local = self._answering(self._new_credentials(), kind)
            if kind is SessionKind.WHIP:
                agreed = answer_publisher(parsed, local)
                entry = self._channel(channel)
                description = None
            else:
                entry = self._channel_to_watch(channel, kind)
                entry.told_codec = video_codec(codec) or entry.told_codec
                description = entry.stream.describe()
                agreed = answer_viewer(parsed, local, description, entry.codec)
        except NegotiationError as error:
            self._settle_channel(channel, now)
            raise Refused(error.status, error.code, "The offer cannot be served", error.detail) from error
        config = self.session_config(agreed, local, offered=False)
        if kind is not SessionKind.WHIP:
            config = dataclasses.replace(config, consent_timeout=RECEIVER_SILENCE)
        identity = Identity(session_id, kind, channel, local.credentials.ufrag)
        session = Session(config, now)
        peer = Peer(identity, session, agreed, entry.stream, description, self._ways, self, now)
        entry.peers[session_id] = peer
        if peer.sends:
            entry.newest = peer
        self._demux.add(identity.ufrag, peer)
        self.peer_added(peer)
        if kind is not SessionKind.RELAY_OUT:
            self._joining.add(session_id)
        self.timers.cancel(("empty", channel))
        if entry.relay is None and self._role is Role.EDGE:
            entry.relay = Relay(channel, entry.stream, self)
            entry.relay.start(now)
        peer.start(now)
        log.info("session_created", session=session_id, kind=kind.value, channel=channel)
        return agreed

    def _new_credentials(self) -> IceCredentials:
        """For a session that a peer asks for: they lead to this worker from a port that several share."""
        return marked(new_credentials(self._random), self.endpoint.port)

    def _answering(self, credentials: IceCredentials, kind: SessionKind) -> LocalDescription:
        """Our side of a session that a peer asks for. Relays come over UDP alone."""
        local = self.local_description(credentials, self.endpoint.port)
        ports = () if kind is SessionKind.RELAY_OUT else tuple(self.tcp.ports)
        return dataclasses.replace(local, tcp_ports=ports)

    def _channel(self, channel: str) -> Channel:
        entry = self._channels.get(channel)
        if entry is None:
            entry = Channel(LiveStream(channel, self.endpoint.sender, self._random))
            self._channels[channel] = entry
        return entry

    def _channel_to_watch(self, channel: str, kind: SessionKind) -> Channel:
        if self._role is Role.EDGE and kind is SessionKind.WHEP:
            return self._channel(channel)
        entry = self._channels.get(channel)
        if entry is None:
            raise Refused(
                404, "nothing_on_air", "Nothing is on air", f"No one publishes {channel!r} to this node."
            )
        return entry

    def patch(self, session_id: str, fragment: str, if_match: str | None) -> SessionPatch | None:
        """A viewer's or publisher's PATCH: later candidates (None), or an ICE restart. Raises Refused.

        Candidates need nothing of us, as we are ICE-lite. What makes a restart is that the credentials are
        others (RFC 9725 section 4.3.3); If-Match says which ICE session is meant, `*` whichever is on.
        """
        peer = self._peers.get(session_id)
        if peer is None or peer.session.closed:
            raise Refused(404, "no_such_session", "No such session", session_id)
        session = peer.session
        tags = [tag.strip() for tag in (if_match or "").split(",")]
        any_tag = "*" in tags or '"*"' in tags  # the quotes are in RFC 9725's own example
        if if_match is None:
            raise Refused(
                428,
                "etag_needed",
                "An entity tag is needed",
                "Send If-Match with the tag of the answer, or with * to restart ICE.",
            )
        if not any_tag and ice_etag(session_id, session.ice_generation) not in tags:
            raise Refused(
                412,
                "etag_mismatch",
                "The entity tag is another one",
                "It is not that of the session's present ICE session.",
            )
        try:
            given = parse_fragment(fragment).credentials
        except NegotiationError as error:
            raise Refused(error.status, error.code, "The fragment cannot be read", error.detail) from error
        ours, theirs = session.credentials[-1]
        repeated = len(session.credentials) > 1 and any_tag  # its answer may have been lost on the way
        if given is None or (given == theirs and not repeated):
            return None
        if given != theirs:
            if session.config.controlling:
                raise Refused(
                    422, "no_ice_restart", "ICE cannot be restarted", "This session is a node's own."
                )
            ours = self._new_credentials()
            session.restart_ice(ours, given)
            names = [pair.ufrag for pair, _ in session.credentials]
            self._demux.answer_to(peer.identity.ufrag, names)
            log.info("ice_restarts", session=session_id, generation=session.ice_generation)
        local = self._answering(ours, peer.identity.kind)
        return SessionPatch(
            etag=ice_etag(session_id, session.ice_generation),
            fragment=restart_fragment(peer.agreed.answer, local),
        )

    def close(self, session_id: str, reason: str) -> None:
        peer = self._peers.get(session_id)
        if peer is None:
            raise Refused(404, "no_such_session", "No such session", session_id)
        peer.close(self._loop.time(), reason or "ended")

    def end_channel(self, channel: str, reason: str) -> bool:
        """End every session of a channel; False when there is no such channel here."""
        entry = self._channels.get(channel)
        if entry is None:
            return False
        now = self._loop.time()
        if entry.relay is not None:
            entry.relay.stop(now, reason)
            entry.relay = None
        for peer in list(entry.peers.values()):
            peer.close(now, reason)
        self._drop_channel(channel)
        log.info("channel_ended", channel=channel, reason=reason)
        return True

    def resubscribe(self, channel: str, reason: str) -> bool:
        entry = self._channels.get(channel)
        if entry is None or entry.relay is None:
            return False
        entry.relay.resubscribe(self._loop.time(), reason)
        return True

    def subscribed(self, channel: str, attempt: int, session: str, answer: str) -> None:
        entry = self._channels.get(channel)
        if entry is not None and entry.relay is not None:
            entry.relay.subscribed(attempt, session, answer, self._loop.time())

    def refused(self, channel: str, attempt: int, detail: str) -> None:
        entry = self._channels.get(channel)
        if entry is not None and entry.relay is not None:
            entry.relay.refused(attempt, detail, self._loop.time())

    def shutdown(self, reason: str) -> None:
        """Close every session (the peers get a DTLS close_notify) and the sockets."""
        now = self._loop.time()
        for channel in list(self._channels):
            self.end_channel(channel, reason)
        for peer in list(self._peers.values()):
            peer.close(now, reason)
        counters = self.endpoint.sender.counters
        log.info(
            "worker_ends",
            reason=reason,
            sent=counters.packets,
            dropped=counters.dropped,
            refused=counters.refused,
            gso_refused=counters.gso_refused,
            received=self.endpoint.datagrams_received,
            strangers=self._demux.strangers,
            tcp_accepted=self.tcp.accepted,
            tcp_given_up=self.tcp.given_up,
            tcp_passed_on=self.tcp.passed_on,
        )
        self._probe.cancel()
        self.tcp.close()
        self.timers.close()
        for endpoint in self._endpoints:
            endpoint.close()

    # -- what peers and relays ask for (Owner, RelayHost)

    def random(self, count: int) -> bytes:
        return self._random(count)

    def local_description(self, credentials: IceCredentials, port: int) -> LocalDescription:
        return LocalDescription(
            credentials=credentials,
            fingerprint=self.certificate.fingerprint,
            addresses=[(address, port) for address in self._addresses],
            session_id=int.from_bytes(self._random(8), "big") >> 1,
        )

    def session_config(self, agreed: Agreed, local: LocalDescription, *, offered: bool) -> SessionConfig:
        make = SessionConfig.offered if offered else SessionConfig.answered
        config = make(agreed, local, self.certificate, self._random)
        if agreed.video is not None and agreed.video.rtx_payload_type is None:
            config = dataclasses.replace(config, allow_repeat_tx=True)
        return config

    def relay_endpoint(self, on_datagram: Callable[[bytes, Address, float], None]) -> UdpEndpoint:
        for endpoint in [e for e in self._endpoints if e.closed]:
            self._endpoints.remove(endpoint)
            self._closed_bytes[0] += endpoint.sender.counters.sent_bytes
            self._closed_bytes[1] += endpoint.bytes_received
        sock = bind(None, dual_stack=self._dual_stack)
        endpoint = UdpEndpoint(self._loop, sock, on_datagram, self._drained, gro=True)
        self._endpoints.append(endpoint)
        return endpoint

    def subscribe(self, channel: str, attempt: int, offer: str) -> None:
        self._emit({"ev": "subscribe", "channel": channel, "attempt": attempt, "offer": offer})

    def peer_added(self, peer: Peer) -> None:
        self._peers[peer.identity.id] = peer

    def peer_bound(self, peer: Peer, address: Address, now: float) -> None:
        if not self._bind(peer, address, now):
            # The other one may be gone; and this one may not check again for seconds.
            key = ("contest", peer.identity.id)
            self.timers.set(key, now + CONTEST_S, lambda at: self._claim(peer, address, at))

    def _claim(self, peer: Peer, address: Address, now: float) -> None:
        self._bind(peer, address, now)

    def _bind(self, peer: Peer, address: Address, now: float) -> bool:
        """What comes from there is the peer's, unless another one is there."""
        holder = self._demux.at(address)
        if holder is not None and holder is not peer and holder.holds(address, now):
            return False
        given_up = self._demux.bind(peer.identity.ufrag, address)
        if isinstance(address, TcpAddress):
            self.tcp.prove(address)
        if isinstance(given_up, TcpAddress):
            self.tcp.end(given_up)
        return True

    def peer_asked(self, peer: Peer, datagram: bytes) -> None:
        self._demux.expect(peer.identity.ufrag, transaction(datagram))

    def peer_speaks(self, peer: Peer) -> None:
        self._demux.speaks(peer.identity.ufrag, peer.session.speakers)

    def peer_ready(self, peer: Peer, now: float) -> None:
        self._joining.discard(peer.identity.id)
        entry = self._channels.get(peer.identity.channel)
        if entry is None:
            return
        if peer.identity.kind is SessionKind.RELAY_IN and entry.relay is not None:
            entry.relay.ready(peer, now)
        elif peer.identity.kind is SessionKind.WHIP:
            old, entry.publisher = entry.publisher, peer
            if old is not None and old is not peer:
                old.close(now, "replaced by a newer session of the publisher")
            self.timers.cancel(("empty", peer.identity.channel))
        elif peer.viewer is not None:
            entry.stream.report(now, peer.viewer)
            if entry.is_misfit(peer, now):
                self._end_misfits_at(peer.identity.channel, now)
        if peer.sends and peer.codec is not None:
            entry.told_codec, entry.source_since = None, now
            self._end_misfits(peer.identity.channel, now)
        log.info("session_connected", session=peer.identity.id, kind=peer.identity.kind.value)

    def peer_closed(self, peer: Peer, reason: str, now: float) -> None:
        identity = peer.identity
        for address in self._demux.remove(identity.ufrag):
            if isinstance(address, TcpAddress):
                self.tcp.end(address)
        self._peers.pop(identity.id, None)
        self._joining.discard(identity.id)
        self.timers.cancel(peer)
        self.timers.cancel(("contest", identity.id))
        self._emit(
            {
                "ev": "ended",
                "id": identity.id,
                "kind": identity.kind.value,
                "channel": identity.channel,
                "reason": reason,
            }
        )
        log.info("session_ended", session=identity.id, kind=identity.kind.value, reason=reason)
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
        self._settle_channel(identity.channel, now)

    def peer_active(self, peer: Peer, now: float) -> None:
        if peer.state != "closed":
            self.timers.set(peer, peer.session.next_timeout(), peer.handle_timeout)
        self._touched.add(peer.stream)
        if len(self._touched) == 1:
            self._loop.call_soon(self._settle_touched)

    # -- channels that nobody needs any more

    def _settle_channel(self, channel: str, now: float) -> None:
        """Start the clock of a channel without viewers (edge) or without a publisher (origin)."""
        entry = self._channels.get(channel)
        if entry is None:
            return
        if self._role is Role.EDGE:
            if not entry.peers:
                self.timers.set(("empty", channel), now + LET_GO_AFTER, lambda at: self._let_go(channel, at))
        elif not any(peer.sends for peer in entry.peers.values()):
            self.timers.set(("empty", channel), now + ORPHAN_AFTER, lambda at: self._let_go(channel, at))

    def _let_go(self, channel: str, now: float) -> None:
        entry = self._channels.get(channel)
        if entry is None:
            return
        if self._role is Role.EDGE:
            if not entry.peers:
                self.end_channel(channel, "no viewers")
        elif not any(peer.sends for peer in entry.peers.values()):
            self.end_channel(channel, "no publisher")

    def _drop_channel(self, channel: str) -> None:
        entry = self._channels.pop(channel, None)
        self.timers.cancel(("empty", channel))
        self.timers.cancel(("misfits", channel))
        if entry is not None:
            self.timers.cancel(entry.stream)
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
        self.timers.set(("misfits", channel), at, functools.partial(self._end_misfits, channel))

    # -- packets and time

    def _datagram(self, data: bytes, source: Address, now: float) -> None:
        if not data:
            return
        peer = self._demux.find(data, source)
        if peer is not None:
            peer.receive(data, source, now)
        elif data[0] >= 128:
            self._stray(data, source, now)

    def _stray(self, data: bytes, source: Address, now: float) -> None:
        """Media from an address nobody is known at: a NAT may have given a peer of ours another one."""
        for suspect in self._demux.suspects(data, source):
            if self._strays_left <= 0:
                return
            self._strays_left -= 1
            if suspect.receive_stray(data, source, now):
                return

    def _lost(self, address: TcpAddress, now: float) -> None:
        """A peer's TCP connection has closed."""
        peer = self._demux.at(address)
        if peer is not None:
            self._demux.unbind(peer.identity.ufrag, address)
            peer.lost(address, now)

    def _drained(self, now: float) -> None:
        self._settle_touched()

    def _settle_touched(self) -> None:
        for stream in self._touched:
            self._arm(stream)
        self._touched.clear()

    def _arm(self, stream: LiveStream) -> None:
        self.timers.set(stream, stream.next_deadline(), functools.partial(self._stream_timeout, stream))

    def _stream_timeout(self, stream: LiveStream, now: float) -> None:
        stream.handle_timeout(now)
        self._arm(stream)

    def _send_reports(self, now: float) -> None:
        self.timers.set("reports", now + REPORT_EVERY, self._send_reports)
        self._strays_left = STRAYS_A_SECOND
        wall = time.time()
        for channel, entry in list(self._channels.items()):
            source = entry.stream.source
            if source is not None:
                source.report(now, wall)
            entry.stream.report(now)
            if source is not None:
                self._end_misfits(channel, now)

    def _measure_delay(self) -> None:
        now = self._loop.time()
        self._loop_delay = max(self._loop_delay, now - self._probe_due)
        self._probe_due = now + PROBE_EVERY
        self._probe = self._loop.call_at(self._probe_due, self._measure_delay)

    # -- figures

    def report(self, *, sessions: bool) -> dict[str, Any]:
        """What the agent asks for twice a second; every session by itself only when `sessions`.

        The rows of 400 viewers hold up their packets for 0.8 ms, and cost the manager as much again.
        """
        now = self._loop.time()
        meter = self._meter
        meter.begin()
        peers = list(self._peers.values())
        delay, self._loop_delay = self._loop_delay, 0.0
        result = figures.totals(peers)
        result |= {
            "sent": self._closed_bytes[0]
            + sum(e.sender.counters.sent_bytes for e in self._endpoints)
            + self.tcp.bytes_sent,
            "received": self._closed_bytes[1]
            + sum(e.bytes_received for e in self._endpoints)
            + self.tcp.bytes_received,
            "loop_delay_ms": round(delay * 1000, 3),
            "gso": self.endpoint.sender.uses_gso(now),
            "streams": [self._stream_row(entry, now) for entry in self._channels.values()],
        }
        meter.end()
        if sessions:
            meter = self._session_meter
            meter.begin()
            result["sessions"] = [figures.session_row(peer, meter, now) for peer in peers]
            meter.end()
        return result

    def _stream_row(self, entry: Channel, now: float) -> dict[str, Any]:
        session = entry.publisher.identity.id if entry.publisher is not None else None
        kind = "relayed" if self._role is Role.EDGE else "published"
        return figures.stream_row(entry.stream, kind, session, entry.viewers, self._meter, now)
