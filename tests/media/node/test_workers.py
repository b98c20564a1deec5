"""What a worker's process is given by the agent that launches it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from media.node.workers import HUGE_PAGES, TOKEN, TUNABLES, environment
from tests.media.security.stand import running_show

OURS = "=".join(HUGE_PAGES)
MODE = Path("/sys/kernel/mm/transparent_hugepage/enabled")

#: Takes 32 MB and says whether the kernel was asked for huge pages there (proc(5), VmFlags "hg").
ASKED = """
import ctypes, re
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
place = libc.malloc(32 << 20)
for area in re.split(r"(?m)^(?=[0-9a-f]+-[0-9a-f]+ )", open("/proc/self/smaps").read()):
    found = re.match(r"([0-9a-f]+)-([0-9a-f]+) ", area)
    if found and int(found[1], 16) <= place < int(found[2], 16):
        print(" hg" in re.search(r"VmFlags:.*", area)[0])
"""


@pytest.mark.parametrize(
    ("given", "worker"),
    [
        ({}, {TUNABLES: OURS}),
        ({TOKEN: "a secret", "HOME": "/root"}, {"HOME": "/root", TUNABLES: OURS}),
        ({TUNABLES: ""}, {TUNABLES: OURS}),
        ({TUNABLES: "glibc.malloc.arena_max=2"}, {TUNABLES: f"glibc.malloc.arena_max=2:{OURS}"}),
        ({TUNABLES: "glibc.malloc.hugetlb=0"}, {TUNABLES: "glibc.malloc.hugetlb=0"}),
    ],
)
def test_a_worker_has_no_token_and_huge_pages_unless_somebody_says_otherwise(
    given: dict[str, str], worker: dict[str, str]
) -> None:
    assert environment(given) == worker


def test_its_memory_is_asked_to_lie_on_huge_pages_where_the_system_leaves_that_to_programs() -> None:
    leaves = MODE.exists() and "[madvise]" in MODE.read_text()
    for known, expected in ({}, leaves), ({TUNABLES: "glibc.malloc.hugetlb=0"}, False):
        given = {name: value for name, value in os.environ.items() if name != TUNABLES} | known
        words = [sys.executable, "-c", ASKED]
        done = subprocess.run(words, env=environment(given), capture_output=True, text=True, check=True)
        assert done.stdout.strip() == str(expected)


async def test_another_thread_makes_what_protects_the_packets_of_viewers() -> None:
    def turns() -> int:
        """How often the threads beside the first one have waited for something to do."""
        said = [
            task.joinpath("status").read_text() for task in tasks.iterdir() if task.name != str(worker.pid)
        ]
        return sum(int(text.partition("\nvoluntary_ctxt_switches:")[2].split()[0]) for text in said)

    async with running_show() as show:  # its publisher is sent nothing but reports
        worker = show.worker.process
        tasks = Path(f"/proc/{worker.pid}/task")
        before = turns()
        await show.viewer()
        once = turns()
        assert once > before
        await show.viewer()
        assert turns() > once
