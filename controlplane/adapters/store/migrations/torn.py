"""Migrations on MySQL and MariaDB that can be run again after one was torn in the middle.

These servers commit every CREATE and ALTER by itself. What a torn run has done already is answered by
"exists" when it is run again, and passed over. That is right as long as a migration only expands, which is
the rule.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import structlog
from alembic.ddl.mysql import MySQLImpl
from sqlalchemy import Executable
from sqlalchemy.engine import CursorResult
from sqlalchemy.exc import DBAPIError
from sqlalchemy.schema import DDLElement

log = structlog.get_logger(__name__)

EXISTS = (1050, 1060, 1061, 1826, 3822)  # a table, a column, an index, a foreign key, a check of this name


class Repeatable(MySQLImpl):
    __dialect__ = "mysql"

    def _exec(
        self,
        construct: Executable | str,
        execution_options: Mapping[str, Any] | None = None,
        multiparams: Sequence[Mapping[str, Any]] | None = None,
        params: Mapping[str, Any] | None = None,
    ) -> CursorResult[Any] | None:
        try:
            return super()._exec(construct, execution_options, multiparams, params or {})
        except DBAPIError as error:
            number = error.orig.args[0] if error.orig is not None and error.orig.args else None
            if number not in EXISTS or not isinstance(construct, DDLElement):
                raise
            log.info("a migration that was torn is gone on with", exists=str(error.orig.args[1]))  # type: ignore[union-attr]
            return None
