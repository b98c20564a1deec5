"""Where a policy is tried on a crowd, and the recorded history is read: not in the manager's own loop, which
has nodes and viewers to serve."""

from typing import Protocol

from controlplane.wire.fleet import RecordedCrowd, Tried, WhatIfQuestion


class SimulationFailed(Exception):
    """It took too long, or broke. The message says which."""


class NothingRecorded(Exception):
    """There is no history to answer from, or it cannot be read. The message says why, and what to do."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code  # a stable word


class Simulator(Protocol):
    async def simulate(self, question: WhatIfQuestion) -> Tried:
        """What each policy would have done. Raises SimulationFailed, NothingRecorded."""
        ...

    async def recorded(self, past: RecordedCrowd) -> bytes:
        """A HistoryView as JSON: it may be long. Raises SimulationFailed, NothingRecorded."""
        ...
