"""Logging of agent and worker: JSON lines on stderr with `event`, `level`, `at` and who says it.

Agent and workers share one stderr, which their launcher appends to the log; `process` says who speaks.
"""

import logging
import sys
from typing import Any

import orjson
import structlog


def _line(values: Any, default: Any = None, **_: Any) -> str:
    return orjson.dumps(values, default=str).decode()


def configure(process: str, level: int = logging.INFO) -> None:
    """Called once, first thing in a process."""

    def name(_: Any, __: str, values: Any) -> Any:
        values["process"] = process
        return values

    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
        name,
        structlog.processors.format_exc_info,
    ]
    render = structlog.processors.JSONRenderer(serializer=_line)
    structlog.configure(
        processors=[*shared, render],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, render],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(max(level, logging.WARNING))
