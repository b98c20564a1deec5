"""Logging of agent and worker: JSON lines on stderr with `event`, `level`, `at` and who says it.

Agent and workers share one stderr, which their launcher appends to the log; `process` says who speaks. A
worker writes two lines for each session, on the packet path, so a line is made in one go.
"""

import contextlib
import logging
import os
import sys
from datetime import UTC, datetime
from typing import Any

import orjson
import structlog


class _Line:
    """The whole of a line: a structlog processor, the last and (for our own loggers) the only one."""

    def __init__(self, process: str) -> None:
        self._process = process

    def __call__(self, logger: Any, method: str, values: Any) -> bytes:
        if "exc_info" in values:
            values = structlog.processors.format_exc_info(logger, method, values)
        values["level"] = "error" if method == "exception" else method
        values["at"] = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        values["process"] = self._process
        return orjson.dumps(values, default=str)

    def as_text(self, logger: Any, method: str, values: Any) -> str:
        """For the standard library's handlers, which write text."""
        return self(logger, method, values).decode()


class _Out:
    """Writes each line at once, in one call: nobody's line is cut by another process's.

    What cannot be written (a full disk, a launcher that has gone) is lost: no session ends for it.
    """

    def __init__(self, *_: Any) -> None:
        self._descriptor = sys.stderr.fileno()

    def msg(self, line: bytes) -> None:
        with contextlib.suppress(OSError):
            os.write(self._descriptor, line + b"\n")

    debug = info = warning = error = critical = exception = msg


def configure(process: str, level: int = logging.INFO) -> None:
    """Called once, first thing in a process."""
    line = _Line(process)
    structlog.configure(
        processors=[line],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=_Out,
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
    root.setLevel(max(level, logging.WARNING))
