"""A NodeReport out of what the workers said: sums, the median round trip, the mean loss, CPU of all.

And what nine in ten viewers can take: a median would hide the one in ten that it is about. How viewers fare
is told by the rows of their sessions, in a report without rows by the last ones: what viewers report comes
once a second, too.
"""

import statistics
import time
from collections.abc import Sequence
from typing import Any

from controlplane.wire.nodes import NodeReport, SessionKind, SessionRow, StreamReport, WorkerInfo
from media.node.figures import Meter, bits, fraction


class ReportBuilder:
    """Numbers the reports and turns the workers' counts into rates over the interval."""

    def __init__(self) -> None:
        self._seq = 0
        self._meter = Meter()
        self._session_meter = Meter()

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
        rows = [row for answer in reports for row in answer["sessions"]]
        watching = [row for row in rows if row["kind"] == SessionKind.WHEP and row["state"] == "connected"]
        losses = [row["loss"] for row in watching if row.get("loss") is not None]
        estimates = sorted(row["estimate_bps"] for row in watching if row.get("estimate_bps") is not None)
        trips = [row["rtt_s"] for row in watching if row.get("rtt_s") is not None]
        known_cpu = [value for value in cpu if value is not None]
        return NodeReport(
            at=wall,
            seq=self._seq,
            connections=sum(answer["connections"] for answer in reports),
            egress_bps=round(8 * sum(value for value in egress if value is not None), 1),
            ingress_bps=round(8 * sum(value for value in ingress if value is not None), 1),
            loss=statistics.fmean(losses) if losses else None,
            cpu=round(sum(known_cpu), 4) if known_cpu else None,
            rtt_ms=_ms(statistics.median(trips)) if trips else None,
            estimate_p10_bps=estimates[len(estimates) // 10] if estimates else None,
            loop_delay_ms=max((answer["loop_delay_ms"] for answer in reports), default=None),
            gso=all(answer["gso"] for answer in reports) if reports else None,
            sessions=self._sessions(rows) if sessions else None,
            ended=ended,
            streams=_merge([row for answer in reports for row in answer["streams"]]),
            workers=workers,
        )

    def _sessions(self, rows: list[dict[str, Any]]) -> list[SessionRow]:
        meter = self._session_meter
        meter.begin()
        result = [_session(row, meter) for row in rows]
        meter.end()
        return result


def _session(row: dict[str, Any], meter: Meter) -> SessionRow:
    """Of a row of figures.py: rates over the last second, times in ms."""
    name, at, loss = row["id"], row["at"], row.get("loss")
    if "expected" in row:
        lost = meter.change(f"{name}/lost", row["lost"], at)
        loss = fraction(lost, meter.change(f"{name}/expected", row["expected"], at))
    rate = meter.rate(f"{name}/bytes", row["bytes"], at) if "bytes" in row else None
    return SessionRow(
        id=name,
        kind=row["kind"],
        channel=row["channel"],
        state=row["state"],
        remote=row["remote"],
        transport=row["transport"],
        bitrate_bps=bits(rate),
        loss=loss,
        rtt_ms=_ms(row.get("rtt_s")),
        jitter_ms=_ms(row.get("jitter_s")),
        estimate_bps=row.get("estimate_bps"),
        nacks=row.get("nacks", 0),
        plis=row.get("plis", 0),
    )


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 3)


def _merge(rows: list[dict[str, Any]]) -> list[StreamReport]:
    """One row a channel: workers of one node may each have it (the second takes it from the first)."""
    merged: dict[str, dict[str, Any]] = {}
    for row in rows:
        first = merged.setdefault(row["channel"], row)
        if first is not row:
            first["viewers"] += row["viewers"]
    return [StreamReport.model_validate(row) for row in merged.values()]
