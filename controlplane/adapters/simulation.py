"""A simulation as a process of its own: `python -m controlplane.whatif`."""

import asyncio
import sys

from pydantic import TypeAdapter, ValidationError

from controlplane.ports.simulator import SimulationFailed
from controlplane.wire.fleet import Course, WhatIfQuestion

PATIENCE_S = 60.0
COURSES = TypeAdapter(list[Course])


class ProcessSimulator:
    """ports.simulator.Simulator."""

    async def simulate(self, question: WhatIfQuestion) -> list[Course]:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "controlplane.whatif"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(PATIENCE_S):
                said, errors = await process.communicate(question.model_dump_json().encode())
        except TimeoutError as error:
            raise SimulationFailed(f"it took more than {PATIENCE_S:g} s") from error
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        try:
            return COURSES.validate_json(said)
        except ValidationError as error:
            last = errors.decode(errors="replace").strip().rpartition("\n")[2]
            raise SimulationFailed(f"it ended with {process.returncode}: {last}") from error
