"""What the inside of a node says of its sessions and its workers."""

import pytest

from console.screens.inside import widgets
from console.screens.shared.words import plain
from controlplane.wire.nodes import SessionReport, WorkerInfo
from tests.console.screens.stand import node


def text(session: SessionReport) -> dict[str, str]:
    return {name: "".join(part for part, _ in line) for name, line in widgets.row(session).cells.items()}


def session(**more: object) -> SessionReport:
    return SessionReport.model_validate(
        {"id": "abcdefghij", "kind": "whep", "channel": "main", "state": "connected"} | more
    )


def test_a_viewers_row_tells_how_its_way_is() -> None:
    row = text(session(loss=0.125, rtt_ms=23.4, jitter_ms=4.6, estimate_bps=6_750_000, nacks=7, plis=1))
    told = {name: row[name] for name in ("loss", "round", "jitter", "takes", "nacks", "plis")}
    assert told == {
        "loss": "12.5 %",
        "round": "23 ms",
        "jitter": "5 ms",
        "takes": "6.75 Mbps",
        "nacks": "7",
        "plis": "1",
    }


def test_what_a_viewer_has_not_reported_is_a_dash() -> None:
    row = text(session())
    assert {row[name] for name in ("loss", "round", "jitter", "takes")} == {"-"}
    assert {column.key for column in widgets.COLUMNS} == row.keys()


def test_what_nine_viewers_in_ten_can_take_is_told_where_there_is_room() -> None:
    said = node("edge-1").model_copy(update={"estimate_p10_bps": 2_500_000.0})
    assert widgets.can_take(said, 120) == "   nine viewers in ten can take 2.50 Mbps"
    assert widgets.can_take(said, 80) == ""
    assert widgets.can_take(node("edge-1"), 120) == ""


@pytest.mark.parametrize(
    ("workers", "last"),
    [(4, "worker 3: pid 103, UDP port 20003, AA:BB…"), (5, "and 1 more worker, 5 in all"),
     (16, "and 12 more workers, 16 in all")],
)  # fmt: skip
def test_the_number_of_workers_is_told_also_where_they_do_not_fit(workers: int, last: str) -> None:
    there = [
        WorkerInfo(index=i, pid=100 + i, udp_port=20_000 + i, fingerprint="AA:BB") for i in range(workers)
    ]
    assert plain(widgets.worker_lines(there, 80)[-1]) == last
