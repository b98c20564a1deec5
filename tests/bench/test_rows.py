"""Rows that stand on the inside of the product run, if for a moment: what they measure is not looked at."""

import os

import pytest

from bench.figures import Figure
from bench.rows import party, relay, storm

two_cores = pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2, reason="it takes two cores"
)


def names(figures: list[Figure]) -> set[str]:
    assert all(figure.value > 0 for figure in figures)
    return {figure.name for figure in figures}


@two_cores
async def test_the_hop_from_an_origin_to_an_edge(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "CHANNELS", 2)
    monkeypatch.setattr(relay, "ROUND_S", 0.5)
    cores = os.sched_getaffinity(0)
    assert {"relay_us", "relay_ratio"} <= names(await relay.run(rounds=1))
    assert os.sched_getaffinity(0) == cores


@two_cores
def test_parties(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(party, "PARTIES", 2)
    monkeypatch.setattr(party, "ROUND_S", 0.25)
    cores = os.sched_getaffinity(0)
    assert {"party_members_per_core", "party_seat_ratio"} <= names(party.run(rounds=1))
    assert os.sched_getaffinity(0) == cores


def test_a_join_is_told_without_what_the_joiners_watched() -> None:
    calm = [storm.Round(storm.Cpu(2.0, 0.2), packets=0, joins=0)] * 2
    stay = [
        storm.Round(storm.Cpu(2.0 + extra, 0.2 + extra / 10), packets=1000, joins=0) for extra in (0.1, 0.3)
    ]
    packet = storm.a_packet(stay, calm)
    assert packet.worker == pytest.approx(200e-6)
    assert packet.agent == pytest.approx(20e-6)
    join = storm.a_join(storm.Round(storm.Cpu(2.5, 0.4), packets=1500, joins=100), calm[0], packet)
    assert join.with_media.both == pytest.approx(7e-3)
    assert join.alone.worker == pytest.approx((0.5 - 0.3) / 100)
    assert join.alone.agent == pytest.approx((0.2 - 0.03) / 100)
    with pytest.raises(RuntimeError, match="nobody could join"):
        storm.a_join(stay[0], calm[0], packet)
