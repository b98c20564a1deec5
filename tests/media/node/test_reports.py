"""A node's report out of what its workers said."""

from typing import Any

import pytest

from controlplane.wire.nodes import NodeReport, SessionKind
from media.node.reports import ReportBuilder

WORKER = {"connections": 0, "sent": 0, "received": 0, "cpu_s": 0.0, "loop_delay_ms": 0.0, "gso": True}


def row(name: str, at: float, sent: int = 0, **more: Any) -> dict[str, Any]:
    known = {"kind": "whep", "channel": "main", "state": "connected", "remote": "192.0.2.1:9"}
    return {"id": name, "transport": "udp4", "at": at, "bytes": sent} | known | more


def build(
    builder: ReportBuilder, *workers: list[dict[str, Any]], now: float = 0.0, sessions: bool = True
) -> NodeReport:
    answers = [(pid, WORKER | {"sessions": rows, "streams": []}) for pid, rows in enumerate(workers)]
    return builder.build(answers, [], [], now, 1000.0 + now, sessions=sessions)


def told(report: NodeReport, name: str) -> dict[str, Any]:
    assert report.sessions is not None
    (found,) = (session for session in report.sessions if session["id"] == name)
    return dict(found)


def test_a_sessions_rate_is_between_the_moments_its_worker_looked() -> None:
    builder = ReportBuilder()
    first = build(builder, [row("a", 50.0, 1000), row("b", 50.1, 0)], now=7.0)
    assert told(first, "a")["bitrate_bps"] is None
    second = build(builder, [row("a", 51.0, 2000), row("b", 51.1, 500)], now=9.0)
    assert (told(second, "a")["bitrate_bps"], told(second, "b")["bitrate_bps"]) == (8000.0, 4000.0)


def test_a_worker_that_did_not_answer_is_told_of_as_it_was() -> None:
    builder = ReportBuilder()
    for at in (50.0, 51.0, 51.0):
        report = build(builder, [row("a", at, int(1000 * (at - 50)))])
    assert told(report, "a")["bitrate_bps"] == 8000.0


def test_a_report_without_sessions_between_two_with_them_takes_no_reading() -> None:
    builder = ReportBuilder()
    build(builder, [row("a", 50.0, 0)])
    between = build(builder, [row("a", 50.0, 0)], sessions=False)
    assert between.sessions is None
    assert told(build(builder, [row("a", 51.0, 1000)]), "a")["bitrate_bps"] == 8000.0


def test_times_are_milliseconds_and_what_is_not_known_is_none() -> None:
    report = build(
        ReportBuilder(),
        [row("a", 1.0, loss=0.25, rtt_s=0.0123456, jitter_s=0.0009876, estimate_bps=7, nacks=3, plis=2)],
        [row("b", 1.0, rtt_s=None), row("c", 1.0, state="new", remote=None, transport=None)],
    )
    known = told(report, "a")
    assert (known["rtt_ms"], known["jitter_ms"], known["loss"]) == (12.346, 0.988, 0.25)
    assert (known["estimate_bps"], known["nacks"], known["plis"]) == (7, 3, 2)
    assert (known["remote"], known["transport"]) == ("192.0.2.1:9", "udp4")
    unknown = told(report, "b")
    assert {unknown[name] for name in ("rtt_ms", "jitter_ms", "loss", "estimate_bps")} == {None}
    assert told(report, "c")["remote"] is None


def test_a_publishers_loss_is_of_what_was_expected_in_the_last_second() -> None:
    builder = ReportBuilder()
    build(builder, [row("p", 1.0, kind="whip", lost=100, expected=1000)])
    report = build(builder, [row("p", 2.0, kind="whip", lost=110, expected=1200)])
    assert told(report, "p")["loss"] == pytest.approx(0.05)
    assert report.loss is None, "of a node it is that of its viewers"


def test_how_viewers_fare_is_told_of_those_who_are_connected_on_all_workers() -> None:
    viewers = [row(f"v{n}", 1.0, loss=n / 10, rtt_s=n / 100, estimate_bps=n * 1_000_000) for n in range(4)]
    others = [
        row("n", 1.0, state="connecting", loss=1.0, rtt_s=9.0, estimate_bps=1),
        row("r", 1.0, kind=SessionKind.RELAY_OUT.value, loss=1.0, rtt_s=9.0, estimate_bps=1),
        row("p", 1.0, kind=SessionKind.WHIP.value, loss=1.0, rtt_s=9.0),
        row("s", 1.0, rtt_s=None),
    ]
    for sessions in (True, False):
        report = build(ReportBuilder(), viewers[:1] + others, viewers[1:], sessions=sessions)
        assert report.loss == pytest.approx(0.15)
        assert report.rtt_ms == 15.0
        assert report.estimate_p10_bps == 0
