"""A worker's inside: sessions, live streams and relays over one UDP socket, and over TCP for those whose
network blocks UDP. No knowledge of the agent's pipe.

    publisher --WHIP--> origin's stream --relay_out/relay_in--> edge's stream --WHEP--> viewers

Both roles are this one class; what differs is where a channel's media may come from. On an origin it is a
publisher's session; on an edge it is a relay, made when the first viewer comes and let go 5 s after the last.

A channel has one video codec at a time, its publisher's. A receiver is answered with it also before the media
is here (docs/decisions/0002, 0012); whose answer turns out to be for another codec is sent nothing, and its
session is ended, so that it makes a new one.

The engine owns the sessions and joins what is beside it: negotiation.py (what we answer), routing.py (whose a
packet is), channels.py (where media comes from, and what becomes of it), figures.py (what the agent is told).
"""

import asyncio
import math
import os
import socket
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import structlog

from controlplane.wire.inside import SessionInside
from controlplane.wire.nodes import Role, SessionKind, SessionPatch, ice_etag
from media.core.address import Address
from media.core.certificate import Certificate
from media.core.codecs import video_codec
from media.core.errors import NegotiationError
from media.core.sdp import (
    Agreed,
    IceCredentials,
    LocalDescription,
    answer_publisher,
    answer_viewer,
    parse_offer,
    restart_fragment,
)
from media.core.session import Session, SessionConfig
from media.core.srtp import Maker
from media.drive.tcp import TcpEndpoint
from media.drive.timers import Timers
from media.drive.udp import OnRun, UdpEndpoint, bind
from media.drive.ways import Ways
from media.fanout.stream import LiveStream
from media.node import figures, inside
from media.node.channels import Channel, Channels, Emit
from media.node.counts import Counts
from media.node.errors import Refused
from media.node.negotiation import OurSide, new_remote_credentials
from media.node.peer import Identity, Peer
from media.node.relay import Relay
from media.node.routing import Routing

log = structlog.get_logger(__name__)

RECEIVER_SILENCE = 15.0  # a browser is heard each second, others each 5 s: three times that, and it is gone
JOINING_MAX = 400  # publishers and viewers whose handshake is not done: 65 kB each, 150 kB at the worst
JOINING_LOOKED_AT = 0.05  # seconds between two looks at the deadlines of who is joining; none is nearer
FAR, FAR_GRID = 5.0, 0.25  # seconds: a viewer's deadline that is so far off, and how exactly it is kept
REPORT_EVERY = 1.0  # sender and receiver reports
ROWS_AT_ONCE = 32  # sessions of a report: half a millisecond
PROBE_EVERY = 0.05  # of the loop's delay
COUNTED = (SessionKind.WHIP, SessionKind.WHEP)  # a relay is none
CONNECTIONS = 4096  # over TCP; a worker that may have fewer descriptors says so


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
        outbound_made: Maker | None = None,
    ) -> None:
        """`listener` and `shared` take TCP connections: on the number of the UDP port, and on one that other
        workers of this machine share. `connections` is how many of them there may be. `outbound_made` makes
        the SRTP contexts of those we send to (see media.drive.arena).

        Raises PortError when another process passes itself off as this worker on the shared port.
        """
        self._loop = loop
        self._role = role
        self._emit = emit
        self._random = random
        self._outbound_made = outbound_made
        self._log = log.bind()  # see logs.py
        self._dual_stack = sock.family == socket.AF_INET6
        self.certificate = Certificate.generate(datetime.now(UTC))
        self.timers = Timers(loop)
        self._routing = Routing(self.timers, lambda: self.tcp)
        self.endpoint = UdpEndpoint(
            loop, sock, self._routing.packet, self._drained, on_begin=self._turn_begins
        )
        self.tcp = TcpEndpoint(
            loop, self.timers, self._routing.packet, self._drained, self._routing.lost, most=connections
        )
        if listener is not None:
            self.tcp.add(listener)
        if shared is not None:
            self.tcp.add(shared, shared_by=(os.geteuid(), self.endpoint.port))
        self._ways = Ways(self.endpoint, self.tcp)
        self._ours = OurSide(
            addresses, self.certificate, random, self.endpoint.port, tcp_ports=tuple(self.tcp.ports)
        )
        self._counts = Counts()
        self._channels = Channels(loop, role, self.timers, self.endpoint.sender, emit, random, self._counts)
        self._peers: dict[str, Peer] = {}
        self._connected: set[str] = set()  # publishers and viewers that are
        self._joining: dict[str, Peer] = {}  # those that are not yet
        self._joining_looked_at = False  # they will be
        self._endpoints: list[UdpEndpoint] = [self.endpoint]  # relays' too, while open
        self._closed_bytes = [0, 0]  # sent and received by endpoints that are closed
        self._meter = figures.Meter()
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
        try:
            return self._create(session_id, kind, channel, offer, codec)
        except Refused as refused:
            self._counts.refused[refused.code] += 1
            raise

    def _create(
        self, session_id: str, kind: SessionKind, channel: str, offer: str, codec: str | None
    ) -> Agreed:
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
            local = self._ours.answering(self._ours.new_credentials(), kind)
            if kind is SessionKind.WHIP:
                agreed = answer_publisher(parsed, local)
                entry = self._channels.publish(channel)
                description = None
            else:
                entry = self._channels.watch(channel, kind)
                entry.told_codec = video_codec(codec) or entry.told_codec
                description = entry.stream.describe()
                agreed = answer_viewer(parsed, local, description, entry.codec)
        except NegotiationError as error:
            self._channels.settle(channel, now)
            raise Refused(error.status, error.code, "The offer cannot be served", error.detail) from error
        receiver: dict[str, Any] = {"consent_timeout": RECEIVER_SILENCE, "outbound_made": self._outbound_made}
        more = {} if kind is SessionKind.WHIP else receiver
        config = self._ours.config(agreed, local, offered=False, **more)
        identity = Identity(session_id, kind, channel, local.credentials.ufrag)
        session = Session(config, now)
        peer = Peer(identity, session, agreed, entry.stream, description, self._ways, self, now)
        self._channels.joined(peer, entry)
        self._routing.add(peer)
        self.peer_added(peer)
        if kind is not SessionKind.RELAY_OUT:
            self._joins(peer, now)
        if entry.relay is None and self._role is Role.EDGE:
            entry.relay = Relay(channel, entry.stream, self)
            entry.relay.start(now)
        peer.start(now)
        return agreed

    def patch(self, session_id: str, fragment: str, if_match: str | None) -> SessionPatch | None:
        """A viewer's or publisher's PATCH: later candidates (None), or an ICE restart. Raises Refused."""
        peer = self._peers.get(session_id)
        if peer is None or peer.session.closed:
            raise Refused(404, "no_such_session", "No such session", session_id)
        session = peer.session
        given, new = new_remote_credentials(session_id, session, fragment, if_match)
        if given is None:
            return None
        ours, _ = session.credentials[-1]
        if new:
            ours = self._ours.new_credentials()
            session.restart_ice(ours, given)
            self._routing.restarts(peer)
            log.info("ice_restarts", session=session_id, generation=session.ice_generation)
        local = self._ours.answering(ours, peer.identity.kind)
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
        return self._channels.end(channel, reason, self._loop.time())

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
        self._channels.end_all(reason, now)
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
            crowded_out=self.endpoint.datagrams_dropped,
            strangers=self._routing.strangers,
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
        return self._ours.describe(credentials, port)

    def session_config(self, agreed: Agreed, local: LocalDescription, *, offered: bool) -> SessionConfig:
        return self._ours.config(agreed, local, offered=offered)

    def relay_endpoint(
        self, on_datagram: Callable[[bytes, Address, float], None], on_run: OnRun
    ) -> UdpEndpoint:
        for endpoint in [e for e in self._endpoints if e.closed]:
            self._endpoints.remove(endpoint)
            self._closed_bytes[0] += endpoint.sender.counters.sent_bytes
            self._closed_bytes[1] += endpoint.bytes_received
            self._counts.relay_closed(endpoint)
        sock = bind(None, dual_stack=self._dual_stack)
        endpoint = UdpEndpoint(
            self._loop, sock, on_datagram, self._drained, on_begin=self._turn_begins, on_run=on_run
        )
        self._endpoints.append(endpoint)
        return endpoint

    def subscribe(self, channel: str, attempt: int, offer: str) -> None:
        self._emit({"ev": "subscribe", "channel": channel, "attempt": attempt, "offer": offer})

    def peer_added(self, peer: Peer) -> None:
        self._peers[peer.identity.id] = peer

    def peer_bound(self, peer: Peer, address: Address, now: float) -> None:
        self._routing.bind(peer, address, now)

    def peer_asked(self, peer: Peer, datagram: bytes) -> None:
        self._routing.asked(peer, datagram)

    def peer_speaks(self, peer: Peer) -> None:
        self._routing.speaks(peer)

    def peer_ready(self, peer: Peer, now: float) -> None:
        identity = peer.identity
        self._joining.pop(identity.id, None)
        if identity.kind in COUNTED:
            self._connected.add(identity.id)
        self._counts.connected(peer, now)
        self._channels.ready(peer, now)
        self._log.info(
            "session_connected",
            session=identity.id,
            kind=identity.kind.value,
            channel=identity.channel,
            within_s=round(now - peer.made_at, 3),
        )

    def peer_closed(self, peer: Peer, reason: str, now: float) -> None:
        identity = peer.identity
        self._counts.ended(peer)
        self._routing.remove(peer)
        self._peers.pop(identity.id, None)
        self._joining.pop(identity.id, None)
        self._connected.discard(identity.id)
        self.timers.cancel(peer)
        self._emit(
            {
                "ev": "ended",
                "id": identity.id,
                "kind": identity.kind.value,
                "channel": identity.channel,
                "reason": reason,
            }
        )
        self._log.info(
            "session_ended",
            session=identity.id,
            kind=identity.kind.value,
            channel=identity.channel,
            reason=reason,
            after_s=round(now - peer.made_at, 3),
            connected=peer.ready_at is not None,
        )
        self._channels.closed(peer, reason, now)

    def peer_stirred(self, peer: Peer) -> None:
        if peer.state == "closed" or peer.identity.id in self._joining:
            return
        at = peer.session.next_timeout()
        if at is not None and peer.viewer is not None and at - self._loop.time() > FAR:
            # Far off is only the end of a viewer that falls silent, and its reports put it off. So a crowd is
            # looked at some together, a little late, and not in a wake-up each.
            at = math.ceil(at / FAR_GRID) * FAR_GRID
        self.timers.set(peer, at, peer.handle_timeout)

    def stream_stirred(self, stream: LiveStream) -> None:
        self._channels.touch(stream)

    # -- time

    def _joins(self, peer: Peer, now: float) -> None:
        """Its deadlines are looked at now and then: before the first of them most sessions are connected."""
        self._joining[peer.identity.id] = peer
        if not self._joining_looked_at:
            self._joining_looked_at = True
            self.timers.set("joining", now + JOINING_LOOKED_AT, self._look_at_joining)

    def _look_at_joining(self, now: float) -> None:
        again = now + JOINING_LOOKED_AT
        self._joining_looked_at = bool(self._joining)
        if self._joining:
            self.timers.set("joining", again, self._look_at_joining)
        for peer in self._joining.values():
            at = peer.session.next_timeout()
            if at is not None and at < again:
                self.timers.set(peer, at, peer.handle_timeout)

    def _turn_begins(self) -> None:
        self._channels.begin_turn()

    def _drained(self, now: float) -> None:
        self._channels.arm_touched()

    def _send_reports(self, now: float) -> None:
        self.timers.set("reports", now + REPORT_EVERY, self._send_reports)
        self._routing.second()
        self._channels.report(now, time.time())

    def _measure_delay(self) -> None:
        now = self._loop.time()
        self._loop_delay = max(self._loop_delay, now - self._probe_due)
        self._counts.loop_delay.observe(max(0.0, now - self._probe_due))
        self._probe_due = now + PROBE_EVERY
        self._probe = self._loop.call_at(self._probe_due, self._measure_delay)

    # -- figures

    @property
    def sessions(self) -> int:
        return len(self._peers)

    def report(self) -> dict[str, Any]:
        """What the agent asks for twice a second: everything but the sessions one by one."""
        now = self._loop.time()
        meter = self._meter
        meter.begin()
        delay, self._loop_delay = self._loop_delay, 0.0
        result = {
            "connections": len(self._connected),
            "cpu_s": time.process_time(),
            "sent": self._closed_bytes[0]
            + sum(e.sender.counters.sent_bytes for e in self._endpoints)
            + self.tcp.bytes_sent,
            "received": self._closed_bytes[1]
            + sum(e.bytes_received for e in self._endpoints)
            + self.tcp.bytes_received,
            "loop_delay_ms": round(delay * 1000, 3),
            "gso": self.endpoint.sender.uses_gso(now),
            "streams": [self._stream_row(entry, now) for entry in self._channels],
        }
        meter.end()
        return result

    def session_rows(self) -> Iterator[list[dict[str, Any]]]:
        """Every session, some at a time: packets are to be let through between two of them."""
        peers = list(self._peers.values())
        for first in range(0, len(peers), ROWS_AT_ONCE):
            now = self._loop.time()
            some = [peer for peer in peers[first : first + ROWS_AT_ONCE] if peer.state != "closed"]
            yield [figures.session_row(peer, now) for peer in some]

    def inspect(self, session_id: str) -> SessionInside:
        """What is inside one session, for support. Raises Refused."""
        peer = self._peers.get(session_id)
        if peer is None:
            raise Refused(404, "no_such_session", "No such session", session_id)
        return inside.session(peer, self.certificate, self._loop.time())

    def counts(self) -> dict[str, Any]:
        """What has been counted since the start; see counts.py."""
        relays = [endpoint for endpoint in self._endpoints if endpoint is not self.endpoint]
        return self._counts.reading(
            self._peers.values(),
            [entry.stream for entry in self._channels],
            self.endpoint,
            relays,
            self.tcp,
            self._routing,
            self._loop.time(),
        )

    def _stream_row(self, entry: Channel, now: float) -> dict[str, Any]:
        session = entry.publisher.identity.id if entry.publisher is not None else None
        kind = "relayed" if self._role is Role.EDGE else "published"
        return figures.stream_row(entry.stream, kind, session, entry.viewers, self._meter, now)
