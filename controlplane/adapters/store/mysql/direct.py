"""The statements of every join and report, straight to the driver.

Through SQLAlchemy's asynchronous connection a statement costs the stream manager 146 us, and 28 us where its
text is handed to the driver: so what the modules of sql/ keep built is compiled once, and only its values are
put in afterwards. Types convert them both ways as they would in SQLAlchemy. Whatever is built when it is
needed goes the usual way.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from asyncmy.connection import Connection as Driver
from sqlalchemy import Dialect, Executable, Insert, Select
from sqlalchemy.engine import Row
from sqlalchemy.engine.result import IteratorResult, SimpleResultMetaData
from sqlalchemy.types import TypeEngine

from controlplane.adapters.store.sql.transaction import SqlTransaction

# Of every subject: what its module has at its head.
KEPT = frozenset(
    value
    for subject in SqlTransaction.__mro__
    for value in vars(sys.modules[subject.__module__]).values()
    if isinstance(value, Executable)
)

Convert = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Plan:
    """A statement as the driver wants it."""

    text: str  # with %s for each value
    # Of each: its name, where in a list of that name or None, what it is if nobody gives one, conversion
    values: tuple[tuple[str, int | None, Any, Convert | None], ...]
    columns: SimpleResultMetaData | None  # of its rows
    conversions: tuple[Convert | None, ...] | None  # of its rows' values; None: there are none

    def arguments(self, parameters: Mapping[str, Any]) -> tuple[Any, ...]:
        values = []
        for name, place, own, convert in self.values:
            value = parameters.get(name, own)
            if place is not None:
                value = value[place]
            values.append(value if convert is None else convert(value))
        return tuple(values)


class Answer:
    """Of a statement: the part of SQLAlchemy's CursorResult that sql/ asks for."""

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


Shape = frozenset[tuple[str, int | None]]  # the names of values; of one that is a list, how long it is


def shape_of(parameters: Mapping[str, Any]) -> Shape:
    return frozenset(
        (name, len(value) if isinstance(value, list) else None) for name, value in parameters.items()
    )


def plan(statement: Executable, shape: Shape, dialect: Dialect) -> Plan:
    """Of a statement that is given values of these names."""
    names = dict(shape)
    compiled: Any = statement.compile(dialect=dialect, column_keys=sorted(names))  # type: ignore[attr-defined]
    given = {name: None if length is None else [None] * length for name, length in names.items()}
    own = compiled.construct_params(given)
    state = compiled.construct_expanded_state(given)
    lists = {
        one: (name, place)
        for name, ones in state.parameter_expansion.items()
        for place, one in enumerate(ones)
    }
    values = []
    for one in state.positiontup:
        name, place = lists.get(one, (one, None))
        convert = _impl(compiled.binds[name].type, dialect).bind_processor(dialect)
        values.append((name, place, own[name], convert))
    columns, conversions = None, None
    if isinstance(statement, Select):
        selected = list(statement.selected_columns)
        columns = SimpleResultMetaData([str(column.key) for column in selected])
        conversions = tuple(
            _impl(column.type, dialect).result_processor(dialect, None) for column in selected
        )
    return Plan(state.statement, tuple(values), columns, conversions if any(conversions or ()) else None)


def _impl(kind: TypeEngine[Any], dialect: Dialect) -> TypeEngine[Any]:
    return kind.dialect_impl(dialect)


class Direct:
    """Of one connection."""

    def __init__(self, driver: Driver, dialect: Dialect) -> None:
        self._cursor = driver.cursor()
        self._dialect = dialect
        self._plans: dict[tuple[Executable, Shape], Plan] = {}

    async def execute(
        self, statement: Executable, parameters: Mapping[str, Any] | Sequence[Mapping[str, Any]]
    ) -> Answer:
        """With several sets of values, all of the same names, an INSERT is one statement of several rows."""
        cursor: Any = self._cursor
        if isinstance(parameters, Mapping):
            found = self._plan(statement, parameters)
            await cursor.execute(found.text, found.arguments(parameters))
        else:
            found = self._plan(statement, parameters[0])
            await cursor.executemany(found.text, [found.arguments(values) for values in parameters])
        rows = await cursor.fetchall() if found.columns is not None else ()
        inserted = cursor.lastrowid if isinstance(statement, Insert) else None
        return Answer(found, rows, cursor.rowcount, inserted)

    def _plan(self, statement: Executable, parameters: Mapping[str, Any]) -> Plan:
        key = statement, shape_of(parameters)
        found = self._plans.get(key)
        if found is None:
            found = self._plans[key] = plan(statement, key[1], self._dialect)
        return found
