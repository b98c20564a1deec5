"""What the two databases call differently: the clock, and an INSERT of rows of which some may exist."""

from typing import Any

from sqlalchemy import Double, Insert
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement


class database_now(FunctionElement[float]):
    """Unix time by the database's clock. SQLite has none: there the store answers it (sqlite.py)."""

    name = "database_now"
    type = Double()
    inherit_cache = True


@compiles(database_now, "sqlite")
def _of_sqlite(element: object, compiler: object, **words: Any) -> str:
    return "database_now()"


@compiles(database_now, "mysql", "mariadb")
def _of_mysql(element: object, compiler: object, **words: Any) -> str:
    # Of this moment, not of the statement's begin. Our connections' zone is UTC, which has no hour twice.
    return "UNIX_TIMESTAMP(SYSDATE(6))"


class insert_or(Insert):
    """An INSERT of rows of which some may exist: `or_keep` leaves those as they are, `or_replace` does not.

    Either way they are locked, and exclusively so: with MySQL's INSERT IGNORE two who then write a row that
    was there would wait for each other.
    """

    inherit_cache = True


class or_keep(insert_or):
    inherit_cache = True


class or_replace(insert_or):
    inherit_cache = True


@compiles(or_keep, "sqlite")
def _keep_of_sqlite(element: or_keep, compiler: Any, **words: Any) -> str:
    return f"{compiler.visit_insert(element, **words)} ON CONFLICT DO NOTHING"


@compiles(or_keep, "mysql", "mariadb")
def _keep_of_mysql(element: or_keep, compiler: Any, **words: Any) -> str:
    column = next(iter(element.table.primary_key)).name
    return f"{compiler.visit_insert(element, **words)} ON DUPLICATE KEY UPDATE {column} = {column}"


@compiles(or_replace, "sqlite")
def _replace_of_sqlite(element: or_replace, compiler: Any, **words: Any) -> str:
    keys = ", ".join(column.name for column in element.table.primary_key)
    values = ", ".join(f"{name} = excluded.{name}" for name in _replaced(element))
    return f"{compiler.visit_insert(element, **words)} ON CONFLICT ({keys}) DO UPDATE SET {values}"


@compiles(or_replace, "mysql", "mariadb")
def _replace_of_mysql(element: or_replace, compiler: Any, **words: Any) -> str:
    values = ", ".join(f"{name} = VALUES({name})" for name in _replaced(element))
    return f"{compiler.visit_insert(element, **words)} ON DUPLICATE KEY UPDATE {values}"


def _replaced(element: or_replace) -> list[str]:
    return [column.name for column in element.table.c if not column.primary_key]
