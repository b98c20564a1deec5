"""A small network on virtual time: sessions at addresses, datagrams that are late, lost, doubled, reordered.

Nothing waits: time jumps to the next arrival or timer. All chance comes from a seed, except OpenSSL's own
random numbers, which only fill opaque bytes.
"""

import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache

from media.core import sdp
from media.core.certificate import Certificate
from media.core.session import Address, Closed, Connected, DtlsReady, Event, Session, SessionConfig, Transmit

EDGE: Address = ("10.0.0.2", 20001)
ORIGIN: Address = ("10.0.0.1", 20000)


@dataclass
class Link:
    """What happens to a datagram on its way."""

    delay: float = 0.010
    jitter: float = 0.0  # up to this much more: reorders
    loss: float = 0.0
    duplication: float = 0.0


@dataclass
class Host:
    """A session at an address, and everything it said."""

    session: Session
    address: Address
    events: list[Event] = field(default_factory=list)
    sent: list[Transmit] = field(default_factory=list)
    _moment: float | None = None

    def next_moment(self) -> float | None:
        """The session's; and whoever had asked only while it is stirred would have missed nothing."""
        stirred, known = self.session.stirred, self._moment
        moment = self._moment = self.session.next_timeout()
        assert stirred or moment == known or (moment is not None and known is not None and moment > known)
        return moment

    def seen(self, kind: type) -> list[Event]:
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def connected(self) -> bool:
        return bool(self.seen(Connected))

    @property
    def ready(self) -> bool:
        return bool(self.seen(DtlsReady)) and not self.session.closed

    @property
    def closed_because(self) -> str | None:
        reasons = [event.reason for event in self.events if isinstance(event, Closed)]
        return reasons[0] if reasons else None


class Network:
    def __init__(self, link: Link | None = None, seed: int = 1) -> None:
        self.now = 1000.0
        self.link = link or Link()
        self.random = random.Random(seed)
        self.hosts: list[Host] = []
        self.blocked: set[Address] = set()  # nothing to or from these arrives
        self.short_ways = True  # a check goes to `receive_check` first, as media.node.routing does it
        self.by_short_way = 0  # checks for which that was enough
        self._order = itertools.count()
        self._flying: list[tuple[float, int, bytes, Address, Address]] = []

    def add(self, session: Session, address: Address) -> Host:
        host = Host(session, address)
        self.hosts.append(host)
        self.drain(host)
        return host

    def send(self, data: bytes, source: Address, to: Address) -> None:
        """Put a datagram on the wire, from anyone."""
        copies = 2 if self.random.random() < self.link.duplication else 1
        for _ in range(copies):
            if self.random.random() < self.link.loss:
                continue
            arrival = self.now + self.link.delay + self.random.random() * self.link.jitter
            heapq.heappush(self._flying, (arrival, next(self._order), data, source, to))

    def drain(self, host: Host) -> None:
        while (item := host.session.poll()) is not None:
            if isinstance(item, Transmit):
                host.sent.append(item)
                self.send(item.data, host.address, item.to)
            else:
                host.events.append(item)
        host.next_moment()

    def step(self) -> bool:
        """Go to the next arrival or timer; False when nothing will ever happen again."""
        timers = [
            (moment, index)
            for index, host in enumerate(self.hosts)
            if (moment := host.next_moment()) is not None
        ]
        timer = min(timers, default=None)
        if self._flying and (timer is None or self._flying[0][0] <= timer[0]):
            self.now, _, data, source, to = heapq.heappop(self._flying)
            if source in self.blocked or to in self.blocked:
                return True
            for host in self.hosts:
                if host.address == to:
                    self._arrive(host, data, source)
            return True
        if timer is None:
            return False
        self.now = max(self.now, timer[0])
        host = self.hosts[timer[1]]
        host.session.handle_timeout(self.now)
        self.drain(host)
        return True

    def _arrive(self, host: Host, data: bytes, source: Address) -> None:
        answer = None
        if self.short_ways and data[:1] < b"\x04":
            answer = host.session.receive_check(data, source, self.now)
        if answer is None:
            host.session.receive(data, source, self.now)
        else:
            assert not host.session.pending
            self.by_short_way += 1
            if answer:
                host.sent.append(Transmit(answer, source))
                self.send(answer, host.address, source)
        self.drain(host)

    def run_until(self, condition: Callable[[], bool], limit: float = 60.0) -> bool:
        """Whether the condition came true within `limit` virtual seconds."""
        end = self.now + limit
        while not condition():
            if self.now > end or not self.step():
                return condition()
        return True

    def run_for(self, seconds: float) -> None:
        end = self.now + seconds
        while self.next_moment <= end and self.step():
            pass
        self.now = max(self.now, end)

    @property
    def next_moment(self) -> float:
        """Of the next arrival or timer; infinity when nothing will ever happen again."""
        moments = [m for host in self.hosts if (m := host.next_moment()) is not None]
        return min([*moments, *(item[0] for item in self._flying[:1])], default=float("inf"))


@cache
def certificate(name: str) -> Certificate:
    """One certificate a name for the whole run."""
    return Certificate.generate(datetime(2026, 1, 1, tzinfo=UTC))


@dataclass
class Pair:
    """An edge that subscribed to an origin: controlling client against ICE-lite server."""

    network: Network
    edge: Host
    origin: Host
    agreed_edge: sdp.Agreed
    agreed_origin: sdp.Agreed

    @property
    def ready(self) -> bool:
        return self.edge.ready and self.origin.ready


def subscribe(
    link: Link | None = None,
    seed: int = 1,
    *,
    change_answer: Callable[[str], str] = lambda text: text,
    change_offer: Callable[[str], str] = lambda text: text,
    origin_addresses: tuple[Address, ...] = (ORIGIN,),
) -> Pair:
    """Exchange offer and answer and put both sessions on a network; nothing has been sent yet."""
    network = Network(link, seed)
    rand = network.random.randbytes
    edge_certificate, origin_certificate = certificate("edge"), certificate("origin")
    edge_local = sdp.LocalDescription(sdp.new_credentials(rand), edge_certificate.fingerprint, [EDGE])
    origin_local = sdp.LocalDescription(
        sdp.new_credentials(rand), origin_certificate.fingerprint, origin_addresses
    )
    offer = sdp.parse_offer(change_offer(sdp.make_relay_offer(edge_local)))
    stream = sdp.StreamDescription(0x11111111, 0x22222222, 0x33333333, "cname", "show")
    agreed_origin = sdp.answer_viewer(offer, origin_local, stream)
    agreed_edge = sdp.accept_answer(sdp.parse_answer(change_answer(agreed_origin.answer)))
    origin = Session(
        SessionConfig.answered(agreed_origin, origin_local, origin_certificate, rand), network.now
    )
    edge = Session(SessionConfig.offered(agreed_edge, edge_local, edge_certificate, rand), network.now)
    return Pair(network, network.add(edge, EDGE), network.add(origin, ORIGIN), agreed_edge, agreed_origin)
