"""A simulation, or a look into the history, as a process of its own: `python -m controlplane.whatif`."""

import asyncio
import sys

from pydantic import ValidationError

from controlplane.ports.simulator import NothingRecorded, SimulationFailed
from controlplane.wire.base import Problem
from controlplane.wire.fleet import NOTHING_RECORDED, RecordedCrowd, Tried, WhatIfQuestion

PATIENCE_S = 60.0


class ProcessSimulator:
    """ports.simulator.Simulator."""

    async def simulate(self, question: WhatIfQuestion) -> Tried:
        said, ended = await self._ask(question.model_dump_json())
        try:
            return Tried.model_validate_json(said)
        except ValidationError as error:
            raise SimulationFailed(ended) from error

    async def recorded(self, past: RecordedCrowd) -> bytes:
        said, _ = await self._ask(past.model_dump_json(), "history")
        return said

    async def _ask(self, question: str, *words: str) -> tuple[bytes, str]:
        """What it said, and how it ended."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "controlplane.whatif", *words),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(PATIENCE_S):
                said, errors = await process.communicate(question.encode())
        except TimeoutError as error:
            raise SimulationFailed(f"it took more than {PATIENCE_S:g} s") from error
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode == NOTHING_RECORDED:
            problem = Problem.model_validate_json(said)
            raise NothingRecorded(problem.code, problem.detail)
        last = errors.decode(errors="replace").strip().rpartition("\n")[2]
        ended = f"it ended with {process.returncode}: {last}"
        if process.returncode:
            raise SimulationFailed(ended)
        return said, ended
