"""The processes of a swarm as the whole sees them: what they say, and how they end."""

import asyncio
import json
import os
import signal
import sys
from dataclasses import asdict
from pathlib import Path

import orjson
import psutil
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from media.swarm.load import _Part, read_second
from media.swarm.second import Second
from tests.media.swarm.server import WhepServer
from tests.support.wait import wait_for

FIRST = orjson.dumps(asdict(Second(viewers=3, connected=3, playing=3, packets=10)))


async def part(folder: Path, said: bytes, code: int = 0) -> _Part:
    """A process of three viewers that says this, and ends."""
    program = folder / "part.py"
    program.write_text(f"import os, sys\nos.write(1, {said!r})\nsys.exit({code})\n")
    pipe = asyncio.subprocess.PIPE
    return _Part(
        await asyncio.create_subprocess_exec(sys.executable, str(program), stdin=pipe, stdout=pipe), 3
    )


async def test_a_process_that_dies_in_the_middle_of_a_line_is_heard_up_to_there(tmp_path: Path) -> None:
    it = await part(tmp_path, FIRST + b"\n" + FIRST[:40], code=1)
    await wait_for(lambda: it.ended and it.take().failed, 10, "its end is noticed")
    standing = it.take()
    assert (standing.viewers, standing.playing, standing.failed, standing.packets) == (3, 0, 3, 0)
    assert standing.reasons == {"their process ended": 3}
    await it.end()
    assert it.take().failed == 3, "ending what is dead does not bring it back"


async def test_what_is_no_second_is_passed_over_and_counted_is_what_is(tmp_path: Path) -> None:
    it = await part(tmp_path, b"a library says something\n" + FIRST + b"\n[]\n" + FIRST + b"\n")
    await it.end()  # asked to before its end is noticed: its last words count
    said, standing = it.take(), it.take()
    assert (said.packets, standing.packets) == (20, 0)
    assert (standing.playing, standing.failed) == (3, 0)


@given(st.binary() | st.integers(0, len(FIRST) - 1).map(lambda end: FIRST[:end]))
@example(b"[" * 10_000)
@example(b'{"viewers": 1, "nobody": 2}')
@example(b"null")
def test_a_line_is_a_second_or_nothing(line: bytes) -> None:
    second = read_second(line)
    assert second is None or isinstance(second, Second)
    assert second is None or line not in (FIRST[:end] for end in range(2, len(FIRST)))


@pytest.mark.parametrize("victim", [0, 1])
async def test_a_killed_process_takes_its_viewers_along_and_the_swarm_ends_all_the_same(
    server: WhepServer, victim: int
) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "media.swarm", "crowd", "--whep", server.whep, "--json"),
        *("--viewers", "3", "--ramp", "3", "--seconds", "3", "--processes", "2"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        await wait_for(lambda: server.pcs, 30, "the first has come")
        parts = sorted(psutil.Process(process.pid).children(), key=lambda child: child.pid)
        os.kill(parts[victim].pid, signal.SIGKILL)
        out, err = await asyncio.wait_for(process.communicate(), 60)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert b"Traceback" not in err
    seen = json.loads(out)
    lost = [2, 1][victim]
    assert process.returncode == 1
    assert (seen["asked"], seen["failed"], seen["playing"]) == (3, lost, 3 - lost)
    assert seen["reasons"] == {"their process ended": lost}
