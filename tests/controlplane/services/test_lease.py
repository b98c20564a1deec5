"""The lease: one leads, whatever stops, is killed or sets clocks; who comes too late changes nothing."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.adapters.store import migrate
from controlplane.adapters.store.sqlite import SqliteStore
from controlplane.domain.managers.model import ActKind, Lease
from controlplane.domain.managers.rules import is_fenced_off, may_take
from controlplane.ports.store import StoreAway
from controlplane.services.board import Board
from controlplane.services.books import Books, Change, LeaseLost
from controlplane.services.lease import Leading
from tests.controlplane.clock import VirtualClock
from tests.controlplane.stage import running
from tests.controlplane.stage import settings as config

LENGTH_S = 6.0


class OneRow:
    """ports.store.Store and its transaction, as far as a lease needs them."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self.row: Lease | None = None

    async def write(self, work: Callable[[Any], Awaitable[Any]]) -> Any:
        return await work(self)

    async def time(self) -> float:
        return self._clock.now()

    async def lease(self) -> Lease | None:
        return self.row

    async def take_lease(self, seen: Lease | None, holder: str, length_s: float) -> Lease | None:
        assert seen == self.row
        token = 1 if seen is None else seen.token + 1
        self.row = Lease(holder=holder, token=token, expires=self._clock.now() + length_s, length_s=length_s)
        return self.row

    async def renew_lease(self, token: int, length_s: float) -> bool:
        if self.row is None or self.row.token != token:
            return False
        expires = self._clock.now() + length_s
        self.row = Lease(holder=self.row.holder, token=token, expires=expires, length_s=length_s)
        return True

    async def give_lease_back(self, token: int) -> None:
        if self.row is not None and self.row.token == token:
            self.row = Lease(holder="", token=token, expires=0.0, length_s=self.row.length_s)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["look", "give back", "kill"]), st.integers(0, 2)),
        st.tuples(st.just("pass"), st.floats(0.0, 2 * LENGTH_S)),
        st.tuples(st.just("set"), st.floats(-3600.0, 0.0)),
    ),
    max_size=40,
)


@given(STEPS)
@settings(max_examples=300, deadline=None)
def test_never_do_two_lead_and_tokens_only_rise(steps: list[tuple[str, Any]]) -> None:
    """A manager that does not look is one that is stopped; one that is killed is started again at once."""
    clock = VirtualClock()
    store = OneRow(clock)
    managers = [Leading(store, clock, name, LENGTH_S) for name in "abc"]  # type: ignore[arg-type]

    def run(work: Awaitable[Any]) -> None:
        with pytest.raises(StopIteration):
            work.__await__().__next__()

    token = 0
    for what, given_with in steps:
        if what == "pass":
            clock.advance(given_with)
        elif what == "set":  # the database's, back: forward is like an expiry, and the fence stands there
            clock.wall += given_with
        elif what == "kill":
            managers[given_with] = Leading(store, clock, "abc"[given_with], LENGTH_S)  # type: ignore[arg-type]
            run(managers[given_with].look())
        elif what == "look":
            run(managers[given_with].look())
        else:
            run(managers[given_with].give_back())
        if store.row is not None:
            assert store.row.token >= token
            token = store.row.token
        assert sum(manager.held for manager in managers) <= 1 or what == "set" or clock.was_set
        writing = [it for it in managers if it._token is not None and not is_fenced_off(store.row, it._token)]
        assert len(writing) <= 1


@given(st.floats(0, 1e6), st.floats(-1e5, 1e5))
def test_a_lease_is_free_when_it_has_expired_or_cannot_be_of_this_clock(now: float, left: float) -> None:
    lease = Lease(holder="a", token=1, expires=now + left, length_s=LENGTH_S)
    assert may_take(lease, "a", now)
    assert may_take(lease, "b", now) == (lease.expires <= now or lease.expires > now + LENGTH_S)


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
async def two(tmp_path: Path, clock: VirtualClock) -> AsyncIterator[tuple[Books, Books]]:
    """Two managers' books on one database."""
    database = tmp_path / "showcaller.db"
    migrate.prepare(database)
    books = [Books(SqliteStore(database, clock=clock.now), Board(), clock) for _ in range(2)]
    yield books[0], books[1]
    for it in books:
        await it.store.close()


async def note(books: Books, text: str) -> None:
    await books.change(Change.note, "a.test", "x", text)


async def said(books: Books) -> list[str]:
    return [entry.message for entry in await books.store.read(lambda tx: tx.latest_journal(100))]


async def test_who_was_stopped_for_two_leases_writes_nothing_any_more(
    two: tuple[Books, Books], clock: VirtualClock
) -> None:
    a = Leading(two[0].store, clock, "a", LENGTH_S)
    b = Leading(two[1].store, clock, "b", LENGTH_S)
    assert await a.look()
    assert not await b.look()
    with a.acting():
        await note(two[0], "before")
        clock.advance(2 * LENGTH_S)
        assert not a.held
        assert await b.look()
        for act in (note(two[0], "late"), two[0].change(Change.begin_act, ActKind.LAUNCH, "edge-1")):
            with pytest.raises(LeaseLost):
                await act
    with pytest.raises(LeaseLost), a.acting():
        pass
    with b.acting():
        await note(two[1], "the new one")
    assert await said(two[1]) == ["before", "the new one"]
    assert await two[1].store.read(lambda tx: tx.open_acts()) == []
    assert not await a.look()
    await note(two[0], "serving goes on")  # carries no token
    assert (await said(two[1]))[-1] == "serving goes on"


async def test_a_lease_that_is_renewed_stays_and_one_given_back_is_had_at_once(
    two: tuple[Books, Books], clock: VirtualClock
) -> None:
    a = Leading(two[0].store, clock, "a", LENGTH_S)
    b = Leading(two[1].store, clock, "b", LENGTH_S)
    assert await a.look()
    for _ in range(20):
        clock.advance(LENGTH_S / 3)
        assert not await b.look()
        assert await a.look()
    await a.give_back()
    assert not a.held
    assert await b.look()


async def test_a_manager_that_was_killed_takes_its_own_lease_over_at_once(
    two: tuple[Books, Books], clock: VirtualClock
) -> None:
    before = Leading(two[0].store, clock, "a", LENGTH_S)
    assert await before.look()
    after = Leading(two[1].store, clock, "a", LENGTH_S)
    assert await after.look()
    with before.acting(), pytest.raises(LeaseLost):  # should it live on nevertheless
        await note(two[0], "late")
    assert await said(two[0]) == []


async def test_of_two_who_want_it_in_the_same_moment_one_has_it(
    two: tuple[Books, Books], clock: VirtualClock
) -> None:
    """Both have seen the same row, and write after that."""
    seen = await two[0].store.read(lambda tx: tx.lease())
    first = await two[0].store.write(lambda tx: tx.take_lease(seen, "a", LENGTH_S))
    assert first is not None
    assert first.token == 1
    assert await two[1].store.write(lambda tx: tx.take_lease(seen, "b", LENGTH_S)) is None
    clock.advance(2 * LENGTH_S)
    seen = await two[1].store.read(lambda tx: tx.lease())
    second = await two[1].store.write(lambda tx: tx.take_lease(seen, "b", LENGTH_S))
    assert second is not None
    assert second.token == 2
    assert await two[0].store.write(lambda tx: tx.take_lease(seen, "a", LENGTH_S)) is None
    assert not await two[0].store.write(lambda tx: tx.renew_lease(1, LENGTH_S))


async def test_a_busy_database_does_not_lose_the_lease_of_who_is_alone(
    two: tuple[Books, Books], clock: VirtualClock
) -> None:
    a = Leading(two[0].store, clock, "a", LENGTH_S)
    assert await a.look()
    clock.advance(3 * LENGTH_S)  # nothing could be written meanwhile
    assert not a.held
    assert await a.look()
    assert a.held


@pytest.mark.parametrize("why", ["busy", "over"])
async def test_a_manager_that_cannot_know_at_its_start_whether_it_leads_serves_and_leads_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    """The holder was stopped in the middle of a write, and nobody gets at the row; or it took so long to get
    at it that the lease was over by then."""
    looks: list[float] = []
    look = Leading.look

    async def at_first(self: Leading) -> bool:
        looks.append(0.0)
        if len(looks) == 1 and why == "busy":
            raise StoreAway("nobody answers")
        taken = await look(self)
        if len(looks) == 1:
            self._until = float("-inf")
        return taken

    monkeypatch.setattr(Leading, "look", at_first)
    async with running(tmp_path, config(lease={"length_s": 1.0}), manager="b") as show:
        await show.until({"origin-1": "in_service", "edge-1": "in_service"})
        assert show.stage.lease.acts
