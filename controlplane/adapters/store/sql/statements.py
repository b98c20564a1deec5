"""What the statements of all subjects need: a connection, rows and counts of it, the time, lists of keys."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from sqlalchemy import Column, Executable, Select, Table, bindparam, insert, select, update
from sqlalchemy.engine import CursorResult, Row

from controlplane.adapters.store import tables as t
from controlplane.adapters.store.sql.dialects import database_now

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

AT_ONCE = 500  # keys in one statement
T = TypeVar("T")

_TIME = select(database_now().label("now"))


class Executes(Protocol):
    """What a transaction needs of its connection."""

    async def execute(
        self,
        statement: Executable,
        parameters: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
    ) -> CursorResult[Any]: ...


if TYPE_CHECKING:

    def _fits(connection: AsyncConnection) -> Executes:
        """SQLAlchemy's own has it, for databases that are asked over the network."""
        return connection


class Statements:
    """A transaction, as far as it is the same for every subject; each adds those of its own."""

    def __init__(self, connection: Executes, *, locks: bool = True) -> None:
        """`locks`: what is read by its key is locked, as it is about to be written. SQLite locks anyway."""
        self._c = connection
        self._locks = locks

    async def _rows(self, statement: Executable, **values: Any) -> list[Row[Any]]:
        return list((await self._c.execute(statement, values)).all())

    async def _one(self, statement: Executable, **values: Any) -> Row[Any] | None:
        return (await self._c.execute(statement, values)).first()

    async def _changed(self, statement: Executable, **values: Any) -> int:
        return (await self._c.execute(statement, values)).rowcount

    async def _lock(self, what: str) -> None:
        """Keep out everybody else who locks this, until the transaction has ended. On SQLite a write is alone
        anyway; a database that several managers share locks rows, and none that is not there yet."""
        locked = update(t.locks).where(t.locks.c.name == what).values(taken=t.locks.c.taken + 1)
        if await self._changed(locked) == 0:
            await self._c.execute(insert(t.locks).values(name=what, taken=1))

    async def _among(self, statement: Executable, keys: Collection[Any]) -> list[Row[Any]]:
        """Of a statement that `among` has made."""
        rows: list[Row[Any]] = []
        for part in parts(list(keys)):
            rows += await self._rows(statement, of_keys=filled(part))
        return rows

    async def time(self) -> float:
        row = await self._one(_TIME)
        assert row is not None
        return float(row.now)


def among(columns: Select[Any], key: Column[Any]) -> Select[Any]:
    """Those with some keys, kept for whatever keys these are."""
    return columns.where(key.in_(bindparam("of_keys", expanding=True)))


def parts(keys: Sequence[T]) -> Iterator[Sequence[T]]:
    """So many at once that no statement is too long for either database."""
    for first in range(0, len(keys), AT_ONCE):
        yield keys[first : first + AT_ONCE]


def filled(keys: Sequence[T]) -> list[T]:
    """As many of them as a power of two, the last one again and again: so a statement that is kept is put
    together for ten lengths of its list and not for five hundred."""
    return [*keys, *([keys[-1]] * ((1 << (len(keys) - 1).bit_length()) - len(keys)))]


def clip(text: str, table: Table, column: str) -> str:
    """Names and reasons come from outside: MySQL refuses what SQLite would take."""
    length: int | None = getattr(table.c[column].type, "length", None)
    return text if length is None else text[:length]
