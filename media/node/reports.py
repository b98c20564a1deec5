"""A NodeReport out of what the workers said: sums, the median round trip, the mean loss, CPU of all.

And what nine in ten viewers can take: a median would hide the one in ten that it is about."""

import statistics
import time
from collections.abc import Sequence
from typing import Any

from controlplane.wire.nodes import NodeReport, SessionReport, StreamReport, WorkerInfo
from media.node.figures import Meter


class ReportBuilder:
    """Numbers the reports and turns the workers' counts into rates over the interval."""

    def __init__(self) -> None:
        self._seq = 0
        self._meter = Meter()

    def build(
        self,
        answers: Sequence[tuple[int, dict[str, Any]]],
        workers: list[WorkerInfo],
        ended: list[str],
        now: float,
        wall: float,
        *,
        sessions: bool,
    ) -> NodeReport:
        """`answers` pairs a worker's pid with its report; `now` is steady, `wall` Unix seconds.

        `sessions`: whether the workers were asked for each of them.
        """
        self._seq += 1
        meter = self._meter
        meter.begin()
        reports = [answer for _, answer in answers]
        egress = [meter.rate(f"{pid}/sent", answer["sent"], now) for pid, answer in answers]
        ingress = [meter.rate(f"{pid}/received", answer["received"], now) for pid, answer in answers]
        cpu = [meter.rate(f"{pid}/cpu", answer["cpu_s"], now) for pid, answer in answers]
        cpu.append(meter.rate("agent/cpu", time.process_time(), now))
        meter.end()
        losses = [tuple(answer["losses"]) for answer in reports if answer["losses"] is not None]
        measured = sum(count for _, count in losses)
        estimates = sorted(bps for answer in reports for bps in answer["estimates_bps"])
        trips = [trip for answer in reports for trip in answer["rtts_ms"]]
        known_cpu = [value for value in cpu if value is not None]
        return NodeReport(
            at=wall,
            seq=self._seq,
            connections=sum(answer["connections"] for answer in reports),
            egress_bps=round(8 * sum(value for value in egress if value is not None), 1),
            ingress_bps=round(8 * sum(value for value in ingress if value is not None), 1),
            loss=sum(mean * count for mean, count in losses) / measured if measured else None,
            cpu=round(sum(known_cpu), 4) if known_cpu else None,
            rtt_ms=statistics.median(trips) if trips else None,
            estimate_p10_bps=estimates[len(estimates) // 10] if estimates else None,
            loop_delay_ms=max((answer["loop_delay_ms"] for answer in reports), default=None),
            gso=all(answer["gso"] for answer in reports) if reports else None,
            sessions=[SessionReport.model_validate(row) for answer in reports for row in answer["sessions"]]
            if sessions
            else None,
            ended=ended,
            streams=_merge([row for answer in reports for row in answer["streams"]]),
            workers=workers,
        )


def _merge(rows: list[dict[str, Any]]) -> list[StreamReport]:
    """One row a channel: workers of one node may each have it (the second takes it from the first)."""
    merged: dict[str, dict[str, Any]] = {}
    for row in rows:
        first = merged.setdefault(row["channel"], row)
        if first is not row:
            first["viewers"] += row["viewers"]
    return [StreamReport.model_validate(row) for row in merged.values()]
