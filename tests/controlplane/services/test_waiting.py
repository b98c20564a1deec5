"""Who waits for a seat counts once, however early or late it comes back."""

import random

import pytest

from controlplane.services.waiting import LATE_S, Waiting
from controlplane.wire.nodes import Role
from tests.controlplane.clock import VirtualClock

AFTER_S = 1.0  # what they are told


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def waiting(clock: VirtualClock) -> Waiting:
    return Waiting(clock)


@pytest.mark.parametrize("seed", range(5))
def test_pages_that_wait_are_counted_exactly_at_every_moment(
    waiting: Waiting, clock: VirtualClock, seed: int
) -> None:
    """Seven, each of which comes back after three to five quarters of what it was told, and a way."""
    chance = random.Random(seed)
    due = {f"page-{number}": clock.monotonic() + chance.random() for number in range(7)}
    begun: set[str] = set()
    for _ in range(300):
        page = min(due, key=due.__getitem__)
        clock.advance(due[page] - clock.monotonic())
        assert waiting.people(Role.EDGE) == len(begun), "also just before one comes back"
        waiting.refused(Role.EDGE, AFTER_S, page)
        begun.add(page)
        assert waiting.people(Role.EDGE) == len(begun)
        due[page] += AFTER_S * chance.uniform(0.75, 1.25) + chance.uniform(0.01, 0.4)
    assert waiting.refusals[Role.EDGE] == 300


def test_one_that_comes_as_late_as_it_may_is_still_there_and_one_that_has_gone_is_not(
    waiting: Waiting, clock: VirtualClock
) -> None:
    waiting.refused(Role.EDGE, AFTER_S, "page-one")
    waiting.refused(Role.EDGE, AFTER_S, "page-two")
    clock.advance(1.25 * AFTER_S + LATE_S - 0.01)
    assert waiting.people(Role.EDGE) == 2
    waiting.refused(Role.EDGE, AFTER_S, "page-two")
    clock.advance(0.02)
    assert waiting.people(Role.EDGE) == 1
    assert waiting.here() == {Role.EDGE: 1}


def test_whoever_is_seated_takes_nobody_elses_place(waiting: Waiting) -> None:
    for page in ("page-one", "page-two", None, None):
        waiting.refused(Role.EDGE, AFTER_S, page)
    waiting.seated(Role.EDGE, "page-new")  # at once: it has not waited
    assert waiting.people(Role.EDGE) == 4
    waiting.seated(Role.EDGE, "page-one")
    waiting.seated(Role.EDGE)
    assert waiting.people(Role.EDGE) == 2
    waiting.refused(Role.ORIGIN, AFTER_S)
    assert waiting.here() == {Role.EDGE: 2, Role.ORIGIN: 1}


def test_whoever_says_no_word_counts_until_he_was_to_ask_again(waiting: Waiting, clock: VirtualClock) -> None:
    waiting.refused(Role.EDGE, AFTER_S)
    clock.advance(0.99 * AFTER_S)
    assert waiting.people(Role.EDGE) == 1
    clock.advance(0.02 * AFTER_S)
    assert waiting.people(Role.EDGE) == 0
