"""Logging: JSON lines on stderr, with keys `event`, `level`, `at` and whatever belongs to the event.

Whoever launched the process appends its stderr to a file. What libraries log through the standard library
(uvicorn, SQLAlchemy, asyncio) comes out in the same shape.
"""

import logging
import sys
from typing import Any

import orjson
import structlog


def _line(values: Any, default: Any = None, **_: Any) -> str:
    return orjson.dumps(values, default=str).decode()


def configure(level: int = logging.INFO) -> None:
    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.processors.JSONRenderer(serializer=_line)],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(serializer=_line),
            ],
        )
    )
    # uvicorn calls a handshake that was answered with 401 an error of ours; it is not.
    logging.getLogger("uvicorn.error").addFilter(lambda record: "completing handshake" not in record.msg)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(max(level, logging.WARNING))
