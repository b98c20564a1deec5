"""An edge's subscription to the worker that has a live stream, made anew whenever it breaks.

    waiting     until `retry_at`, then ask
    asking      an offer is with the agent, which asks the manager (or a worker of its own)
    connecting  the answer is here; ICE and DTLS are under way
    live        the source is ours

A live relay from which nothing has come for 2 s is broken: an origin sends its reports each second even when
its publisher is silent. While a new attempt is under way, what still flows from the old relay is used.

Each relay has a socket of its own: two relays from one origin would otherwise share both ends' addresses, and
nothing in DTLS could tell them apart. It also lets the kernel coalesce what an origin sends by UDP_SEGMENT.
"""

import math
from collections.abc import Callable
from typing import Any, Protocol

import structlog

from controlplane.wire.nodes import SessionKind
from media.core.errors import NegotiationError
from media.core.sdp import IceCredentials, LocalDescription, accept_answer, make_relay_offer, new_credentials
from media.core.sdp import parse_answer as parse
from media.core.session import Address, Session, SessionConfig
from media.drive.timers import Timers
from media.drive.udp import OnRun, UdpEndpoint
from media.fanout.stream import LiveStream
from media.node.peer import Identity, Owner, Peer

log = structlog.get_logger(__name__)

RETRY_FIRST, RETRY_MOST = 0.25, 1.0  # seconds
ASK_TIMEOUT = 4.0
CONNECT_TIMEOUT = 3.0
SILENCE = 2.0
CHECK_EVERY = 0.25
ORDER_REPEATS = 0.9  # an order comes with every answer to a report until it is obeyed


class RelayHost(Owner, Protocol):
    """What a relay needs of its engine."""

    timers: Timers

    def relay_endpoint(
        self, on_datagram: Callable[[bytes, Address, float], None], on_run: OnRun
    ) -> UdpEndpoint:
        """A socket of its own; raises OSError."""

    def local_description(self, credentials: IceCredentials, port: int) -> LocalDescription: ...

    def session_config(self, agreed: Any, local: LocalDescription, *, offered: bool) -> SessionConfig: ...

    def random(self, count: int) -> bytes: ...

    def subscribe(self, channel: str, attempt: int, offer: str) -> None:
        """Ask the agent; `subscribed` or `refused` follows."""

    def peer_added(self, peer: Peer) -> None: ...


class _Attempt:
    """One subscription from its offer on."""

    def __init__(self, number: int, endpoint: UdpEndpoint, local: LocalDescription) -> None:
        self.number = number
        self.endpoint = endpoint
        self.local = local
        self.peer: Peer | None = None

    def end(self, now: float, reason: str) -> None:
        if self.peer is not None and self.peer.state != "closed":
            self.peer.close(now, reason)
        self.endpoint.close()


class Relay:
    """See the module's docstring. Lives as long as the channel has viewers here."""

    def __init__(self, channel: str, stream: LiveStream, host: RelayHost) -> None:
        self.channel = channel
        self.state = "waiting"
        self.reason = ""  # why it is not live, in words
        self._stream = stream
        self._host = host
        self._number = 0
        self._current: _Attempt | None = None  # feeds the stream
        self._next: _Attempt | None = None
        self._retry_after = RETRY_FIRST
        self._deadline = 0.0
        self._asked_at = 0.0

    def start(self, now: float) -> None:
        self._ask(now)

    def stop(self, now: float, reason: str) -> None:
        """Let go; it may be started again."""
        self.state = "waiting"
        # Taken off first: an attempt that ends while it is ours is made again (see `closed`).
        attempts = (self._next, self._current)
        self._next = self._current = None
        for attempt in attempts:
            if attempt is not None:
                attempt.end(now, reason)
        self._host.timers.cancel(self)

    def resubscribe(self, now: float, reason: str) -> None:
        """Ask again at once; an order repeated while we have just asked changes nothing."""
        if self.state in ("asking", "connecting") and now - self._asked_at < ORDER_REPEATS:
            return
        log.info("relay_resubscribes", channel=self.channel, reason=reason)
        self._retry_after = RETRY_FIRST
        self._abandon(now, reason)
        self._ask(now)

    def _ask(self, now: float) -> None:
        attempt: _Attempt | None = None

        def on_datagram(data: bytes, source: Address, at: float) -> None:
            if attempt is not None and attempt.peer is not None:
                attempt.peer.receive(data, source, at)

        def on_run(data: memoryview, stride: int, source: Address, at: float) -> bool:
            peer = None if attempt is None else attempt.peer
            return peer is not None and peer.receive_run(data, stride, source, at)

        self._number += 1
        self._asked_at = now
        try:
            endpoint = self._host.relay_endpoint(on_datagram, on_run)
        except OSError as error:
            self._retry(now, f"no socket for the relay: {error}")
            return
        local = self._host.local_description(new_credentials(self._host.random), endpoint.port)
        attempt = self._next = _Attempt(self._number, endpoint, local)
        self.state = "asking"
        self._deadline = now + ASK_TIMEOUT
        self._watch(now)
        self._host.subscribe(self.channel, self._number, make_relay_offer(local))

    def subscribed(self, number: int, session_id: str, answer: str, now: float) -> None:
        attempt = self._next
        if attempt is None or attempt.number != number or self.state != "asking":
            return
        try:
            agreed = accept_answer(parse(answer))
        except NegotiationError as error:
            self._abandon(now, "bad answer")
            self._retry(now, f"the origin's answer cannot be used: {error.detail}")
            return
        config = self._host.session_config(agreed, attempt.local, offered=True)
        identity = Identity(
            id=f"{session_id}.in",
            kind=SessionKind.RELAY_IN,
            channel=self.channel,
            ufrag=attempt.local.credentials.ufrag,
        )
        session = Session(config, now)
        peer = Peer(identity, session, agreed, self._stream, None, attempt.endpoint, self._host, now)
        attempt.peer = peer
        self.state = "connecting"
        self._deadline = now + CONNECT_TIMEOUT
        self._host.peer_added(peer)
        peer.start(now)

    def refused(self, number: int, detail: str, now: float) -> None:
        attempt = self._next
        if attempt is None or attempt.number != number or self.state != "asking":
            return
        self._abandon(now, detail)
        self._retry(now, detail)

    def ready(self, peer: Peer, now: float) -> None:
        """The new relay's DTLS is done: the stream comes from it now."""
        attempt = self._next
        if attempt is None or attempt.peer is not peer:
            return
        old, self._current, self._next = self._current, attempt, None
        self.state = "live"
        self.reason = ""
        self._retry_after = RETRY_FIRST
        if peer.source is not None:
            peer.source.last_at = now  # the silence is counted from here
        if old is not None:
            old.end(now, "replaced by a newer relay")
        self._watch(now)
        log.info("relay_live", channel=self.channel, session=peer.identity.id)

    def closed(self, peer: Peer, reason: str, now: float) -> None:
        """The origin ended the session, or it failed."""
        if self._current is not None and self._current.peer is peer:
            self._current.endpoint.close()
            self._current = None
            if self._next is None and self.state == "live":
                self._retry(now, reason)
        elif self._next is not None and self._next.peer is peer:
            self._next.endpoint.close()
            self._next = None
            self._retry(now, reason)

    def _abandon(self, now: float, reason: str) -> None:
        attempt, self._next = self._next, None
        if attempt is not None:
            attempt.end(now, reason)

    def _retry(self, now: float, reason: str) -> None:
        if reason != self.reason:
            log.info("relay_waits", channel=self.channel, reason=reason)
        self.state = "waiting"
        self.reason = reason
        self._deadline = now + self._retry_after
        self._retry_after = min(RETRY_MOST, self._retry_after * 2)
        self._watch(now)

    def _watch(self, now: float) -> None:
        self._host.timers.set(self, now + CHECK_EVERY, self._tick)

    def _tick(self, now: float) -> None:
        current = self._current
        if current is not None and current.peer is not None and current.peer.source is not None:
            stats = current.peer.session.stats(now)
            current.peer.source.rtt = stats.rtt
            heard = math.inf if stats.heard_age is None else stats.heard_age
            quiet = min(current.peer.source.quiet_for(now), heard)
            if quiet > SILENCE:
                log.info("relay_silent", channel=self.channel, seconds=round(quiet, 2))
                self._current = None
                current.end(now, "nothing came for 2 s")
                if self.state == "live":
                    self._ask(now)
                    return
        if self.state == "waiting" and now >= self._deadline:
            self._ask(now)
            return
        if self.state in ("asking", "connecting") and now >= self._deadline:
            self._abandon(now, "timed out")
            self._retry(now, f"{self.state} took too long")
            return
        self._watch(now)
