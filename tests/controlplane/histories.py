"""Recorded loads, made up for tests."""

from collections.abc import Sequence
from typing import Any

from controlplane.wire.history import MINUTE, HistoryLine, series

GROUP = "edge@local"


def minute(at: int, loads: Sequence[int], **more: Any) -> HistoryLine:
    """A minute of a group, the last load going on to its end."""
    said = {"group": GROUP, "in_service": 1, "capacity": 400} | more
    return HistoryLine(at=at, connections=series([*loads, *loads[-1:] * (MINUTE - len(loads))]), **said)
