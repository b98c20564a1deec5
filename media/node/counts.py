"""What a worker has counted since it started, for metrics: asked for when somebody scrapes, never pushed.

Sessions, streams and relays come and go; a count must never go down. So what belongs to one of them is
counted where it happens, and added up here when it ends: a reading is what has ended and what is there.
"""

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import fields
from typing import Any

from media.core.session import Drops
from media.drive.tcp import TcpEndpoint
from media.drive.udp import UdpEndpoint
from media.fanout.histogram import Histogram
from media.fanout.stream import LiveStream
from media.fanout.track import TrackCounters
from media.node.memory import resident_bytes
from media.node.peer import Peer
from media.node.routing import Routing

TRACK = tuple(field.name for field in fields(TrackCounters))
DROPS = tuple(field.name for field in fields(Drops))
_HANDSHAKES = ("done", "no_address", "dtls_failed", "abandoned")


class Counts:
    """One worker's."""

    def __init__(self) -> None:
        self.handshakes = Counter(dict.fromkeys(_HANDSHAKES, 0))
        #: from the first address that ICE validates until the keys are here
        self.handshake_time = Histogram(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
        #: how late the loop came to a deadline, looked at 20 times a second
        self.loop_delay = Histogram(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0)
        self.refused: Counter[str] = Counter()  # sessions asked for, by the code of the refusal
        self._drops = Counter(dict.fromkeys(DROPS, 0))  # of sessions that have ended
        self._tracks = Counter(dict.fromkeys(TRACK, 0))  # of streams that have ended
        self._relays: Counter[str] = Counter()  # of relays' sockets that are closed

    def connected(self, peer: Peer, now: float) -> None:
        self.handshakes["done"] += 1
        if peer.reached_at is not None:
            self.handshake_time.observe(now - peer.reached_at)

    def ended(self, peer: Peer) -> None:
        if peer.ready_at is None:
            if peer.given_up:
                result = "abandoned"
            else:
                result = "no_address" if peer.reached_at is None else "dtls_failed"
            self.handshakes[result] += 1
        _add_fields(self._drops, DROPS, peer.session.drops)

    def stream_ended(self, stream: LiveStream) -> None:
        for track in stream.tracks:
            _add_fields(self._tracks, TRACK, track.counters)

    def relay_closed(self, endpoint: UdpEndpoint) -> None:
        self._relays.update(_of_udp(endpoint))

    def reading(
        self,
        peers: Iterable[Peer],
        streams: Iterable[LiveStream],
        udp: UdpEndpoint,
        relays: Iterable[UdpEndpoint],
        tcp: TcpEndpoint,
        routing: Routing,
        now: float,
    ) -> dict[str, Any]:
        """All of it as JSON; `metrics.py` says what each is called."""
        drops, tracks, sockets = Counter(self._drops), Counter(self._tracks), Counter(self._relays)
        sessions: Counter[str] = Counter()
        for peer in peers:
            _add_fields(drops, DROPS, peer.session.drops)
            sessions[f"{peer.identity.kind.value}/{peer.state}"] += 1
        for stream in streams:
            for track in stream.tracks:
                _add_fields(tracks, TRACK, track.counters)
        for endpoint in (udp, *relays):
            sockets.update(_of_udp(endpoint))
        return {
            "sessions": sessions,
            "handshakes": self.handshakes,
            "handshake_time": _of_histogram(self.handshake_time),
            "refused": self.refused,
            "drops": drops,
            "tracks": tracks,
            "udp": sockets,
            "tcp": {
                "received": tcp.datagrams_received,
                "received_bytes": tcp.bytes_received,
                "sent_bytes": tcp.bytes_sent,
                "open": len(tcp),
                "strangers": tcp.strangers,
                "accepted": tcp.accepted,
                "given_up": tcp.given_up,
                "passed_on": tcp.passed_on,
            },
            "strangers": routing.strangers,
            "strays_tried": routing.strays_tried,
            "strays_refused": routing.strays_refused,
            "fanout": _of_histogram(udp.sender.counters.fanout),
            "loop_delay": _of_histogram(self.loop_delay),
            "gso": udp.sender.uses_gso(now),
            "cpu_s": time.process_time(),
            "memory": resident_bytes(),
        }


def _add_fields(total: Counter[str], names: Iterable[str], counters: object) -> None:
    for name in names:
        total[name] += getattr(counters, name)


def _of_udp(endpoint: UdpEndpoint) -> dict[str, int]:
    counters = endpoint.sender.counters
    return {
        "received": endpoint.datagrams_received,
        "received_bytes": endpoint.bytes_received,
        "sent": counters.packets,
        "sent_bytes": counters.sent_bytes,
        "gso_refused": counters.gso_refused,
        "full": counters.full,
        "no_room": counters.no_room,
        "unprotected": counters.unprotected,
        "unreachable": counters.unreachable,
        "crowded_out": endpoint.datagrams_dropped,
    }


def _of_histogram(histogram: Histogram) -> dict[str, Any]:
    return {"bounds": histogram.bounds, "counts": histogram.counts, "total": histogram.total}
