"""A node's metrics as Prometheus reads them: `GET /metrics` on its control endpoint.

Names, units and labels follow Prometheus' conventions: base units (seconds, bytes), `_total` for what only
grows, no label whose values somebody from outside chooses. What is a worker's has the label `worker`, its
index: a worker that was replaced begins at zero again, which Prometheus takes for what it is.

The workers are asked when somebody scrapes (counts.py), so that nobody pays for what nobody reads.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prometheus_client import Metric

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
PREFIX = "showcaller_node_"

HANDSHAKES = ("done", "no_address", "dtls_failed", "abandoned")  # what becomes of a session
Reading = Mapping[str, Any]  # of one worker: see counts.py


@dataclass(slots=True)
class NodeCounts:
    """What the agent knows by itself."""

    name: str
    role: str
    version: str
    started_at: float  # Unix time
    capacity: int | None  # connections
    cpu_s: float
    memory: int  # bytes
    workers_restarted: int
    reports: Mapping[str, int]  # to the manager: delivered, unanswered, refused
    refused: Mapping[str, int]  # sessions that no worker was asked for, by the code of the refusal
    up: Mapping[int, bool]  # by index of the worker: whether it runs
    workers: Mapping[int, Reading] = field(default_factory=dict)  # what each last said


#: reason -> what it is; (part of the reading, its field). All are packets.
DROPS: dict[str, tuple[str, str]] = {
    # on the way out
    "socket_full": ("udp", "full"),
    "connection_full": ("udp", "no_room"),
    "not_protected": ("udp", "unprotected"),
    "unreachable": ("udp", "unreachable"),
    # on the way in
    "crowded_out": ("udp", "crowded_out"),
    "stranger": ("", "strangers"),
    "stray_limit": ("", "strays_refused"),
    "not_authentic": ("drops", "unauthentic"),
    "replayed": ("drops", "replayed"),
    "malformed": ("drops", "malformed"),
    "address_not_validated": ("drops", "unvalidated"),
    # of a source
    "before_key_frame": ("tracks", "keyless"),
    "too_long": ("tracks", "too_long"),
    "too_late": ("tracks", "too_late"),
    "duplicate": ("tracks", "duplicates"),
}

#: name -> (help, ((value of the label, part, field), ...)); a lone row without a value has no label
_COUNTERS: dict[str, tuple[str, str, tuple[tuple[str, str, str], ...]]] = {
    "packets_received": (
        "Datagrams, or packets of RFC 4571 frames, that were read.",
        "transport",
        (("udp", "udp", "received"), ("tcp", "tcp", "received")),
    ),
    "packets_sent": ("Packets that were sent, over UDP and TCP.", "", (("", "udp", "sent"),)),
    "received_bytes": (
        "Bytes that were read: UDP payload, or TCP payload.",
        "transport",
        (("udp", "udp", "received_bytes"), ("tcp", "tcp", "received_bytes")),
    ),
    "sent_bytes": (
        "Bytes that were sent: UDP payload, or TCP payload.",
        "transport",
        (("udp", "udp", "sent_bytes"), ("tcp", "tcp", "sent_bytes")),
    ),
    "dropped_packets": (
        "Packets that were not sent, or not looked at any further.",
        "reason",
        tuple((reason, part, name) for reason, (part, name) in DROPS.items()),
    ),
    "strays_tried": (
        "Times a packet from an unknown address was tried on a session whose peer may have moved.",
        "",
        (("", "", "strays_tried"),),
    ),
    "gso_refusals": ("Times the kernel refused UDP_SEGMENT.", "", (("", "udp", "gso_refused"),)),
    "forwarded_packets": (
        "Packets of sources that were forwarded, each counted once.",
        "",
        (("", "tracks", "packets"),),
    ),
    "key_frames_received": ("Key frames of sources.", "", (("", "tracks", "keyframes"),)),
    "nacked_packets": (
        "Packets that were asked for again by NACK: by viewers (received), by us of a source (sent).",
        "direction",
        (("received", "tracks", "nacked"), ("sent", "tracks", "nacks_sent")),
    ),
    "resent_packets": ("Packets that were sent again to a viewer.", "", (("", "tracks", "resent"),)),
    "resends_refused": (
        "Packets that were not sent again, as the viewer's budget was used up.",
        "",
        (("", "tracks", "resend_refused"),),
    ),
    "plis": (
        "Key frames that were asked for: by viewers (received), by us of a source (sent).",
        "direction",
        (("received", "tracks", "plis"), ("sent", "tracks", "plis_sent")),
    ),
    "stalls": (
        "Times a viewer over TCP had no room for a picture and was set back to the next key frame.",
        "",
        (("", "tracks", "stalls"),),
    ),
    "tcp_connections": (
        "TCP connections that were taken, given up as strangers, or passed on to another worker.",
        "result",
        (("accepted", "tcp", "accepted"), ("given_up", "tcp", "given_up"), ("passed_on", "tcp", "passed_on")),
    ),
    "handshakes": (
        "Sessions that connected, or ended before: without an address that worked, in DTLS, or by a request.",
        "result",
        tuple(
            (result, "handshakes", result) for result in ("done", "no_address", "dtls_failed", "abandoned")
        ),
    ),
    "cpu_seconds": ("CPU time of the worker.", "", (("", "", "cpu_s"),)),
}
_HISTOGRAMS = {
    "fanout_seconds": (
        "From the last packet of a batch (of a frame, at most 32) until its last viewer was sent it.",
        "fanout",
    ),
    "handshake_seconds": ("From the first address that worked until DTLS was done.", "handshake_time"),
    "loop_delay_seconds": ("How late the packet loop comes to a deadline.", "loop_delay"),
}
_GAUGES = {
    "tcp_connections_open": ("TCP connections now, of peers and of strangers.", "tcp", "open"),
    "tcp_strangers": ("TCP connections now that have proven nothing yet.", "tcp", "strangers"),
    "gso_active": ("1: frames leave by UDP_SEGMENT; 0: packet by packet.", "", "gso"),
    "resident_memory_bytes": ("Memory of the worker.", "", "memory"),
}
_KINDS = ("whip", "whep", "relay_out", "relay_in")
_STATES = ("new", "connecting", "connected")


def _value(reading: Reading, part: str, name: str) -> float:
    return float((reading[part] if part else reading)[name])


class _Families:
    """A collector as prometheus_client wants one, of one moment."""

    def __init__(self, node: NodeCounts) -> None:
        self._node = node

    def collect(self) -> "Iterator[Metric]":
        yield from self._of_the_agent()
        workers = [(str(index), reading) for index, reading in sorted(self._node.workers.items())]
        yield from self._counters(workers)
        yield from self._histograms(workers)
        yield from self._gauges(workers)

    def _of_the_agent(self) -> "Iterator[Metric]":
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily

        node = self._node
        yield InfoMetricFamily(
            f"{PREFIX.removesuffix('_')}",
            "Which node this is.",
            {"node": node.name, "role": node.role, "version": node.version},
        )
        yield GaugeMetricFamily(f"{PREFIX}start_time_seconds", "Unix time of its start.", node.started_at)
        if node.capacity is not None:
            yield GaugeMetricFamily(
                f"{PREFIX}connections_limit", "Connections it takes at most.", node.capacity
            )
        yield CounterMetricFamily(f"{PREFIX}agent_cpu_seconds", "CPU time of the agent.", node.cpu_s)
        yield GaugeMetricFamily(f"{PREFIX}agent_resident_memory_bytes", "Memory of the agent.", node.memory)
        yield CounterMetricFamily(
            f"{PREFIX}worker_restarts", "Workers that were replaced.", node.workers_restarted
        )
        up = GaugeMetricFamily(f"{PREFIX}worker_up", "1: the worker runs.", labels=["worker"])
        for index, runs in sorted(node.up.items()):
            up.add_metric([str(index)], float(runs))
        yield up
        reports = CounterMetricFamily(
            f"{PREFIX}reports",
            "Reports to the stream manager, by what became of them.",
            labels=["result"],
        )
        for result, count in sorted(node.reports.items()):
            reports.add_metric([result], count)
        yield reports

    def _counters(self, workers: Sequence[tuple[str, Reading]]) -> "Iterator[Metric]":
        from prometheus_client.core import CounterMetricFamily

        for name, (about, label, rows) in _COUNTERS.items():
            family = CounterMetricFamily(
                PREFIX + name, about, labels=["worker", label] if label else ["worker"]
            )
            for index, reading in workers:
                for value, part, field_ in rows:
                    labels = [index, value] if label else [index]
                    family.add_metric(labels, _value(reading, part, field_))
            yield family
        refused = CounterMetricFamily(
            f"{PREFIX}refused_sessions",
            "Sessions that were asked for and refused, by the code of the refusal; no worker: by the agent.",
            labels=["worker", "reason"],
        )
        for index, counts in (("", self._node.refused), *((i, r["refused"]) for i, r in workers)):
            for reason, count in sorted(counts.items()):
                refused.add_metric([index, reason], count)
        yield refused

    def _histograms(self, workers: Sequence[tuple[str, Reading]]) -> "Iterator[Metric]":
        from prometheus_client.core import HistogramMetricFamily

        for name, (about, part) in _HISTOGRAMS.items():
            family = HistogramMetricFamily(PREFIX + name, about, labels=["worker"])
            for index, reading in workers:
                histogram = reading[part]
                buckets, below = [], 0
                for bound, count in zip((*histogram["bounds"], math.inf), histogram["counts"], strict=True):
                    below += count
                    buckets.append(("+Inf" if bound == math.inf else repr(float(bound)), below))
                family.add_metric([index], buckets, histogram["total"])
            yield family

    def _gauges(self, workers: Sequence[tuple[str, Reading]]) -> "Iterator[Metric]":
        from prometheus_client.core import GaugeMetricFamily

        for name, (about, part, field_) in _GAUGES.items():
            gauge = GaugeMetricFamily(PREFIX + name, about, labels=["worker"])
            for index, reading in workers:
                gauge.add_metric([index], _value(reading, part, field_))
            yield gauge
        sessions = GaugeMetricFamily(
            f"{PREFIX}sessions",
            "WebRTC peers now, by why they are here and how far they have come.",
            labels=["worker", "kind", "state"],
        )
        connections = GaugeMetricFamily(
            f"{PREFIX}connections",
            "Publishers and viewers that are connected now: what capacity counts.",
            labels=["worker"],
        )
        for index, reading in workers:
            here = reading["sessions"]
            for kind in _KINDS:
                for state in _STATES:
                    sessions.add_metric([index, kind, state], here.get(f"{kind}/{state}", 0))
            connections.add_metric([index], here.get("whip/connected", 0) + here.get("whep/connected", 0))
        yield sessions
        yield connections


def text(node: NodeCounts) -> bytes:
    """The exposition format, version 0.0.4. prometheus_client is loaded when it is first needed."""
    from prometheus_client import CollectorRegistry, generate_latest

    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Families(node))
    return generate_latest(registry)
