"""How well a broadcast goes: frames lost, frame rate, bitrate, loss; judged once for all pages. Pure.

Frames are lost in three places that are counted apart, as OBS does: dropped by the network (the way out was
full), skipped by the encoder (too slow), missed by the source (it did not deliver in time). Counting begins
when the broadcast comes on air, at a reset, or when its publisher is started again.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from console.screens.shared import figures, words
from controlplane.wire.api import StreamDetail

SETTLE_S = 10.0  # on air: until then rates are still rising, and one frame is a large share
STARVED_S = 2.0  # an edge that has just asked its origin has no media for a moment


@dataclass(frozen=True, slots=True)
class Baseline:
    """What the counters said when counting began, and when that was."""

    at: float
    dropped: int = 0
    skipped: int = 0
    missed: int = 0


@dataclass(frozen=True, slots=True)
class Counter:
    name: str
    lost: int | None  # frames since counting began
    share: float | None  # of the frames that were due


@dataclass(frozen=True, slots=True)
class Marks:
    """What has to be remembered from one message of the feed to the next."""

    baselines: Mapping[str, Baseline] = field(default_factory=dict)  # by channel
    starved: Mapping[tuple[str, str], float] = field(default_factory=dict)  # channel, edge -> since when

    def baseline(self, stream: StreamDetail) -> Baseline:
        return self.baselines.get(stream.channel) or Baseline(stream.since)

    def follow(self, streams: Iterable[StreamDetail], now: float) -> "Marks":
        """With what is on air now."""
        streams = list(streams)
        return Marks(
            baselines={stream.channel: self._counted_from(stream, now) for stream in streams},
            starved={
                (stream.channel, edge): self.starved.get((stream.channel, edge), now)
                for stream in streams
                for edge in stream.starved
            },
        )

    def _counted_from(self, stream: StreamDetail, now: float) -> Baseline:
        known, report = self.baselines.get(stream.channel), stream.report
        if known is None or known.at < stream.since:
            return Baseline(stream.since)
        if report is not None and (
            (report.line.skipped or 0) < known.skipped
            or (report.missed or 0) < known.missed
            or (report.dropped or 0) < known.dropped
        ):
            return Baseline(now)  # its publisher was started again
        return known

    def reset(self, stream: StreamDetail, now: float) -> "Marks":
        """Count anew from now on."""
        report = stream.report
        if report is None:
            return self
        begun = Baseline(now, report.dropped or 0, report.line.skipped or 0, report.missed or 0)
        return replace(self, baselines={**self.baselines, stream.channel: begun})


def counters(stream: StreamDetail, baseline: Baseline, now: float) -> list[Counter]:
    """The three places; empty for a publisher that is not ours, which keeps its own counters."""
    report = stream.report
    if report is None:
        return []
    due = (report.target_fps or stream.fps or 0.0) * max(0.0, now - baseline.at)

    def counter(name: str, count: int | None, before: int) -> Counter:
        lost = None if count is None else max(0, count - before)
        return Counter(name, lost, None if lost is None or due < 1 else min(1.0, lost / due))

    return [
        counter("dropped by network", report.dropped, baseline.dropped),
        counter("skipped by encoder", report.line.skipped, baseline.skipped),
        counter("missed by source", report.missed, baseline.missed),
    ]


def troubles(
    stream: StreamDetail, marks: Marks, now: float, to_viewers: float | None
) -> list[tuple[int, str]]:
    """What goes wrong with a broadcast that is live: how bad (1 or 2) and in words, the worst first.

    `to_viewers` is the loss between its edges and their viewers.
    """
    found: list[tuple[int, str]] = []

    def judge(level: int, text: str) -> None:
        if level:
            found.append((level, text))

    judge(words.lost_level(stream.loss), f"{figures.loss(stream.loss)} lost on the way to the origin")
    judge(words.lost_level(to_viewers), f"{figures.loss(to_viewers)} lost on the way to the viewers")
    report = stream.report
    if report is not None and now - stream.since >= SETTLE_S:
        for counter in counters(stream, marks.baseline(stream), now):
            share = f"{figures.share(counter.share, 1)} of the frames {counter.name}"
            judge(words.lost_level(counter.share), share)
        fps = frame_rate(stream)
        judge(
            words.frame_rate_level(fps, report.target_fps),
            f"{fps or 0:.1f} of {report.target_fps or 0:.0f} fps",
        )
        bps, asked = stream.bitrate_bps, report.target_bps
        if bps is not None and asked and bps < asked:
            judge(words.bitrate_level(bps, asked), f"{figures.rate(bps)} of {figures.rate(asked)}")
    return sorted(found, key=lambda trouble: -trouble[0])


def frame_rate(stream: StreamDetail) -> float | None:
    """As its publisher says; of one that is not ours, as the origin counts."""
    said = None if stream.report is None else stream.report.line.fps
    return stream.fps if said is None else said
