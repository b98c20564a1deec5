"""What a worker tells its agent: rates over the last second, everything else as it is now."""

import statistics
import time
from collections import deque
from functools import lru_cache
from typing import Any

from controlplane.wire.nodes import SessionKind
from media.core.address import Address, TcpAddress
from media.fanout.stream import LiveStream
from media.node.peer import Peer

WINDOW_S = 1.0  # a group of pictures or two: shorter, and a rate is mostly the size of the last key frame
_CONNECTIONS = (SessionKind.WHIP, SessionKind.WHEP)  # a relay is none
_NEARLY = 0.9  # readings come by a timer, a little early or late


class Meter:
    """Turns growing counts into rates over the last `WINDOW_S`, however often they are read.

    A reading is compared with the newest one that is a window old, or with the oldest there is.
    """

    def __init__(self) -> None:
        self._readings: dict[str, deque[tuple[float, float]]] = {}  # value, moment; oldest first
        self._seen: set[str] = set()

    def begin(self) -> None:
        self._seen.clear()

    def _since(self, key: str, value: float, now: float) -> tuple[float, float] | None:
        """The change of a count and the seconds it took; None at the first reading."""
        self._seen.add(key)
        readings = self._readings.get(key)
        if readings is None:
            self._readings[key] = deque(((value, now),))
            return None
        while len(readings) > 1 and now - readings[1][1] >= WINDOW_S * _NEARLY:
            readings.popleft()
        oldest = readings[0]
        readings.append((value, now))
        return value - oldest[0], now - oldest[1]

    def rate(self, key: str, value: float, now: float) -> float | None:
        """A second; None at the first reading."""
        since = self._since(key, value, now)
        if since is None or since[1] <= 0:
            return None
        return max(0.0, since[0]) / since[1]

    def change(self, key: str, value: float, now: float) -> float | None:
        since = self._since(key, value, now)
        return None if since is None else since[0]

    def end(self) -> None:
        """Forget what was not read since `begin`."""
        for key in [key for key in self._readings if key not in self._seen]:
            del self._readings[key]


def _bits(rate: float | None) -> float | None:
    return None if rate is None else round(rate * 8, 1)


@lru_cache(maxsize=1024)
def spelled(address: Address | None) -> str | None:
    if address is None:
        return None
    host, port = address[0], address[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@lru_cache(maxsize=1024)
def transport(address: Address | None) -> str | None:
    if address is None:
        return None
    return f"{'tcp' if isinstance(address, TcpAddress) else 'udp'}{6 if ':' in address[0] else 4}"


def session_row(peer: Peer, meter: Meter, now: float) -> dict[str, Any]:
    """A wire.SessionReport."""
    identity, remote = peer.identity, peer.session.remote
    row: dict[str, Any] = {
        "id": identity.id,
        "kind": identity.kind.value,
        "channel": identity.channel,
        "state": peer.state,
        "remote": spelled(remote),
        "transport": transport(remote),
    }
    rtt = peer.session.rtt
    if peer.source is not None:
        rtt = peer.source.rtt if rtt is None else rtt
        row["bitrate_bps"] = _bits(meter.rate(f"{identity.id}/in", peer.source.bytes_received, now))
        lost = sum(track.missing.lost for track in peer.source.tracks)
        expected = sum(track.missing.expected for track in peer.source.tracks)
        row["loss"] = _fraction(
            meter.change(f"{identity.id}/lost", lost, now),
            meter.change(f"{identity.id}/expected", expected, now),
        )
    viewer = peer.viewer
    if viewer is not None:
        rtt = viewer.rtt if viewer.rtt is not None else rtt
        row["bitrate_bps"] = _bits(meter.rate(f"{identity.id}/out", viewer.destination.bytes_sent, now))
        row["loss"] = viewer.loss(now)
        jitter = viewer.jitter(now, peer.stream.main_track(viewer).clock_rate)
        row["jitter_ms"] = None if jitter is None else round(jitter * 1000, 3)
        row["estimate_bps"] = viewer.estimate.value(now)
        row["nacks"] = viewer.nacks
        row["plis"] = viewer.plis
    row["rtt_ms"] = None if rtt is None else round(rtt * 1000, 3)
    return row


def _fraction(part: float | None, whole: float | None) -> float | None:
    if part is None or not whole:
        return None
    return min(1.0, max(0.0, part / whole))


def stream_row(
    stream: LiveStream, kind: str, session: str | None, viewers: int, meter: Meter, now: float
) -> dict[str, Any]:
    """A wire.StreamReport."""
    name = f"stream/{stream.channel}"
    received = sum(track.counters.received_bytes for track in stream.tracks)
    video = stream.video
    fps = meter.rate(f"{name}/frames", video.counters.frames, now)
    codec, size = stream.video_codec, video.resolution
    return {
        "channel": stream.channel,
        "kind": kind,
        "state": stream.state(now),
        "session": session,
        "bitrate_bps": _bits(meter.rate(f"{name}/bytes", received, now)),
        "fps": None if fps is None else round(fps, 2),
        "video_codec": None if codec is None else codec.name,
        "width": None if size is None else size.width,
        "height": None if size is None else size.height,
        "viewers": viewers,
        "loss": _fraction(
            meter.change(f"{name}/lost", sum(t.missing.lost for t in stream.tracks), now),
            meter.change(f"{name}/expected", sum(t.missing.expected for t in stream.tracks), now),
        ),
        "keyframe_age_s": None if video.keyframe_at is None else round(now - video.keyframe_at, 3),
    }


def totals(peers: list[Peer], now: float) -> dict[str, Any]:
    """Connections of a worker's peers; the mean loss of its viewers, all their round trips and estimates."""
    connections = 0
    losses: list[int] = []  # of 256
    trips: list[float] = []
    estimates: list[int] = []
    for peer in peers:
        kind, viewer = peer.identity.kind, peer.viewer
        if peer.state != "connected" or kind not in _CONNECTIONS:
            continue
        connections += 1
        if kind is not SessionKind.WHEP or viewer is None:
            continue
        latest = viewer.latest(now)
        if latest is not None:
            losses.append(latest.fraction_lost)
        if viewer.rtt is not None:
            trips.append(round(viewer.rtt * 1000, 3))
        bps = viewer.estimate.value(now)
        if bps is not None:
            estimates.append(bps)
    return {
        "connections": connections,
        "losses": [statistics.fmean(losses) / 256, len(losses)] if losses else None,
        "rtts_ms": trips,
        "estimates_bps": estimates,
        "cpu_s": time.process_time(),
    }
