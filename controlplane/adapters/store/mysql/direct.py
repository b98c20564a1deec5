"""The statements of every join and report, straight to the driver.

Through SQLAlchemy's asynchronous connection a statement costs the stream manager 146 us, and 28 us where its
text is handed to the driver: so what sql.py keeps built (its module's own statements) is compiled once, and
only its values are put in afterwards. Types convert them both ways as they would in SQLAlchemy. Whatever is
built when it is needed goes the usual way.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from asyncmy.connection import Connection as Driver
from sqlalchemy import Dialect, Executable, Insert, Select
from sqlalchemy.engine import Row
from sqlalchemy.engine.result import IteratorResult, SimpleResultMetaData
from sqlalchemy.types import TypeEngine

from controlplane.adapters.store import sql

KEPT = frozenset(value for value in vars(sql).values() if isinstance(value, Executable))

Convert = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Plan:
    """A statement as the driver wants it."""

    text: str  # with %s for each value
    values: tuple[tuple[str, Any, Convert | None], ...]  # name; value if nobody gives one; conversion
    columns: SimpleResultMetaData | None  # of its rows
    conversions: tuple[Convert | None, ...] | None  # of its rows' values; None: there are none

    def arguments(self, parameters: Mapping[str, Any]) -> tuple[Any, ...]:
        return tuple(
            value if convert is None else convert(value)
            for value, convert in ((parameters.get(name, own), convert) for name, own, convert in self.values)
        )


class Answer:
    """Of a statement: the part of SQLAlchemy's CursorResult that sql.py asks for."""

    def __init__(self, plan: Plan, rows: Sequence[tuple[Any, ...]], rowcount: int, key: int | None) -> None:
        self._plan = plan
        self._rows = rows
        self.rowcount = rowcount
        self.inserted_primary_key = None if key is None else (key,)

    def all(self) -> Sequence[Row[Any]]:
        assert self._plan.columns is not None
        rows: Any = self._rows
        if self._plan.conversions is not None:
            rows = (
                tuple(
                    value if convert is None else convert(value)
                    for value, convert in zip(row, self._plan.conversions, strict=True)
                )
                for row in rows
            )
        found: IteratorResult[Any] = IteratorResult(self._plan.columns, iter(rows))
        return found.all()

    def first(self) -> Row[Any] | None:
        return next(iter(self.all()), None)


def plan(statement: Executable, names: frozenset[str], dialect: Dialect) -> Plan:
    """Of a statement that is given values of these names."""
    compiled: Any = statement.compile(dialect=dialect, column_keys=sorted(names))  # type: ignore[attr-defined]
    own = compiled.construct_params(dict.fromkeys(names))
    values = tuple(
        (name, own[name], _impl(compiled.binds[name].type, dialect).bind_processor(dialect))
        for name in compiled.positiontup
    )
    columns, conversions = None, None
    if isinstance(statement, Select):
        selected = list(statement.selected_columns)
        columns = SimpleResultMetaData([str(column.key) for column in selected])
        conversions = tuple(
            _impl(column.type, dialect).result_processor(dialect, None) for column in selected
        )
    return Plan(str(compiled), values, columns, conversions if any(conversions or ()) else None)


def _impl(kind: TypeEngine[Any], dialect: Dialect) -> TypeEngine[Any]:
    return kind.dialect_impl(dialect)


class Direct:
    """Of one connection."""

    def __init__(self, driver: Driver, dialect: Dialect) -> None:
        self._cursor = driver.cursor()
        self._dialect = dialect
        self._plans: dict[tuple[Executable, frozenset[str]], Plan] = {}

    async def execute(self, statement: Executable, parameters: Mapping[str, Any]) -> Answer:
        key = statement, frozenset(parameters)
        found = self._plans.get(key)
        if found is None:
            found = self._plans[key] = plan(statement, key[1], self._dialect)
        cursor: Any = self._cursor
        await cursor.execute(found.text, found.arguments(parameters))
        rows = await cursor.fetchall() if found.columns is not None else ()
        inserted = cursor.lastrowid if isinstance(statement, Insert) else None
        return Answer(found, rows, cursor.rowcount, inserted)
