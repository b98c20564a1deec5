"""What a worker tells its agent: rates of its streams over the last second, and what each session counts."""

from collections import deque
from typing import Any

from media.fanout.stream import LiveStream
from media.node.peer import Peer

WINDOW_S = 1.0  # a group of pictures or two: shorter, and a rate is mostly the size of the last key frame
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


def bits(rate: float | None) -> float | None:
    return None if rate is None else round(rate * 8, 1)


def session_row(peer: Peer, now: float) -> dict[str, Any]:
    """Of what the agent makes a wire.SessionRow (reports.py): counts, and seconds, nothing rounded.

    Rates are worked out there: what is kept of each session from one report to the next would be read with
    a cold cache here, beside the packets.
    """
    identity, viewer, source = peer.identity, peer.viewer, peer.source
    row: dict[str, Any] = {
        "id": identity.id,
        "kind": identity.kind.value,
        "channel": identity.channel,
        "state": peer.state,
        "remote": peer.where,
        "transport": peer.transport,
        "at": now,
    }
    if viewer is not None:
        latest = viewer.latest(now)
        if latest is not None:
            row["loss"] = latest.fraction_lost / 256
            row["jitter_s"] = latest.jitter / peer.stream.main_track(viewer).clock_rate
        row["bytes"] = viewer.destination.bytes_sent
        row["rtt_s"] = viewer.rtt
        row["estimate_bps"] = viewer.estimate.value(now)
        row["nacks"] = viewer.nacks
        row["plis"] = viewer.plis
    elif source is not None:
        rtt = peer.session.rtt
        row["bytes"] = source.bytes_received
        row["rtt_s"] = source.rtt if rtt is None else rtt
        row["lost"] = sum(track.missing.lost for track in source.tracks)
        row["expected"] = sum(track.missing.expected for track in source.tracks)
    return row


def fraction(part: float | None, whole: float | None) -> float | None:
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
        "bitrate_bps": bits(meter.rate(f"{name}/bytes", received, now)),
        "fps": None if fps is None else round(fps, 2),
        "video_codec": None if codec is None else codec.name,
        "width": None if size is None else size.width,
        "height": None if size is None else size.height,
        "viewers": viewers,
        "loss": fraction(
            meter.change(f"{name}/lost", sum(t.missing.lost for t in stream.tracks), now),
            meter.change(f"{name}/expected", sum(t.missing.expected for t in stream.tracks), now),
        ),
        "keyframe_age_s": None if video.keyframe_at is None else round(now - video.keyframe_at, 3),
    }
