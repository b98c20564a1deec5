"""Rows that stand on the inside of the product run, if for a moment: what they measure is not looked at."""

import os

import pytest

from bench.figures import Figure
from bench.rows import party, relay

pytestmark = pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2, reason="it takes two cores"
)


def names(figures: list[Figure]) -> set[str]:
    assert all(figure.value > 0 for figure in figures)
    return {figure.name for figure in figures}


async def test_the_hop_from_an_origin_to_an_edge(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "CHANNELS", 2)
    monkeypatch.setattr(relay, "ROUND_S", 0.5)
    cores = os.sched_getaffinity(0)
    assert {"relay_us", "relay_ratio"} <= names(await relay.run(rounds=1))
    assert os.sched_getaffinity(0) == cores


def test_parties(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(party, "PARTIES", 2)
    monkeypatch.setattr(party, "ROUND_S", 0.25)
    cores = os.sched_getaffinity(0)
    assert {"party_members_per_core", "party_seat_ratio"} <= names(party.run(rounds=1))
    assert os.sched_getaffinity(0) == cores
