"""What is said on stderr: JSON lines for a log file, or plain sentences for a person."""

import json
import logging
import sys
from typing import Any

import structlog

from media.publisher.errors import PublishError


def _sentence(_: Any, level: str, event: dict[str, Any]) -> str:
    """A warning as a person wants to read it. The rest of the event is for the log."""
    words = str(event.get("say") or event["event"])
    return f"{level}: {words}" if level in ("error", "critical") else words


def set_up(log_json: bool) -> None:
    processors: list[Any] = [structlog.processors.add_log_level]
    if log_json:
        processors += [
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ]
    else:
        processors.append(_sentence)
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO if log_json else logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    # aiortc and aioice log by the standard library; what they warn of is for the log, not for a person.
    logging.basicConfig(
        level=logging.WARNING, handlers=[_Forward() if log_json else logging.NullHandler()], force=True
    )


class _Forward(logging.Handler):
    """Library messages, as lines of our log."""

    def emit(self, record: logging.LogRecord) -> None:
        logger = structlog.get_logger()
        logger.log(record.levelno, record.getMessage(), logger_name=record.name)


def tell_error(error: PublishError, as_json: bool) -> None:
    """The last words of a broadcast that could not be."""
    if as_json:
        body = {
            "code": error.code,
            "what": error.what,
            "next": error.next_step,
            "exit": error.exit_code,
        }
        line = json.dumps({"error": body})
    else:
        line = f"error: {error.what}. {error.next_step}"
    print(line, file=sys.stderr, flush=True)
