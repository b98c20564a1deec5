"""Where a policy is tried on a crowd: not in the manager's own loop, which has nodes and viewers to serve."""

from typing import Protocol

from controlplane.wire.fleet import Course, WhatIfQuestion


class SimulationFailed(Exception):
    """It took too long, or broke. The message says which."""


class Simulator(Protocol):
    async def simulate(self, question: WhatIfQuestion) -> list[Course]:
        """What each policy would have done. Raises SimulationFailed."""
        ...
