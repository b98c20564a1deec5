"""Logging of agent and worker: JSON lines on stderr with `event`, `level`, `at` and who says it.

Agent and workers share one stderr, which their launcher appends to the log; `process` says who speaks. A
worker writes two lines for each session, on the packet path, so a line is made in one go.
"""

import logging
import os
import sys
from collections.abc import Callable, MutableMapping
from datetime import UTC, datetime
from typing import Any

import orjson
import structlog

_LINE = orjson.OPT_UTC_Z | orjson.OPT_APPEND_NEWLINE


class _Line:
    """Makes the whole of a line; writes it at once, in one call: nobody's is cut by another process's."""

    def __init__(self, process: str) -> None:
        self._process = process
        self._descriptor = sys.stderr.fileno()

    def __call__(self, level: str, event: str, values: MutableMapping[str, Any]) -> bytes:
        """`values` are put into."""
        if "exc_info" in values:
            values = structlog.processors.format_exc_info(None, level, values)
        values["event"] = event
        values["level"] = level
        values["at"] = datetime.now(UTC)
        values["process"] = self._process
        return orjson.dumps(values, default=str, option=_LINE)

    def write(self, level: str, event: str, values: dict[str, Any]) -> None:
        """What cannot be written (a full disk, a launcher that has gone) is lost: no session ends for it."""
        line = self(level, event, values)
        try:
            os.write(self._descriptor, line)
        except OSError:
            pass

    def as_text(self, logger: Any, method: str, values: Any) -> str:
        """A structlog processor for the standard library's handlers, which write text and end the line."""
        return self(values.pop("level"), values.pop("event"), values).decode().removesuffix("\n")


class _Logger(structlog.BoundLoggerBase):
    """structlog's loggers, without a chain of processors: what they would do is done by `_Line`.

    Whoever speaks on the packet path binds its logger once, or it is put together anew for each line.
    """

    _logger: Callable[[str, str, dict[str, Any]], None]

    def debug(self, event: str, **values: Any) -> None:
        """Not told."""

    def info(self, event: str, **values: Any) -> None:
        self._logger("info", event, {**self._context, **values})

    def warning(self, event: str, **values: Any) -> None:
        self._logger("warning", event, {**self._context, **values})

    def error(self, event: str, **values: Any) -> None:
        self._logger("error", event, {**self._context, **values})

    def exception(self, event: str, **values: Any) -> None:
        self._logger("error", event, {"exc_info": True, **self._context, **values})


def configure(process: str) -> None:
    """Called once, first thing in a process."""
    line = _Line(process)
    structlog.configure(
        processors=[],
        wrapper_class=_Logger,
        logger_factory=lambda *_: line.write,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_log_level, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, line.as_text],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
