"""What a soak is judged by, on made-up samples: what holds, and each way not to."""

import mmap
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from controlplane.wire.processes import ProcessRecord, start_time
from tests.soak.__main__ import seconds, table
from tests.soak.judge import ALL, Verdict, judge, windows
from tests.soak.samples import Held, Sample, held_by

MB = 1_000_000
SECONDS = 1800
QUIET = 20  # descriptors, when nobody is there

Sizes = Callable[[float], float]  # of memory in MB, by the seconds since the beginning


def judged(
    worker: Sizes,
    *,
    manager: Sizes = lambda at: 80.0,
    pid: Callable[[float], int] = lambda at: 2,
    left: int = 0,
) -> dict[str, Verdict]:
    """Half an hour of these, sampled each 5 s while descriptors come and go."""
    chance = random.Random(1)

    def at(moment: float, descriptors: int) -> Sample:
        noise = chance.uniform(-0.2, 0.2)
        held = [
            Held("edge-1/worker-0", pid(moment), round((worker(moment) + noise) * MB), 0, descriptors),
            Held("manager", 1, round((manager(moment) + noise) * MB), 0, descriptors),
        ]
        return Sample(moment, tuple(held))

    during = [at(moment, QUIET + chance.randrange(12)) for moment in range(0, SECONDS + 1, 5)]
    verdicts = judge(at(-60, QUIET), during, at(SECONDS + 60, QUIET + left))
    assert verdicts[-1].name == ALL
    return {verdict.name: verdict for verdict in verdicts}


def problems(verdicts: dict[str, Verdict]) -> dict[str, tuple[str, ...]]:
    return {name: verdict.problems for name, verdict in verdicts.items() if verdict.problems}


def test_what_grows_in_the_warm_up_and_stays_so_is_flat() -> None:
    verdicts = judged(lambda at: min(100.0, 60 + at / 5))
    assert problems(verdicts) == {}
    worker = verdicts["edge-1/worker-0"]
    assert (worker.before, worker.after) == (QUIET, QUIET)
    assert QUIET < worker.peak < QUIET + 12
    assert worker.first == pytest.approx(100 * MB, rel=0.01)
    assert verdicts[ALL].first == pytest.approx(180 * MB, rel=0.01)


def test_what_comes_and_goes_is_flat() -> None:
    assert problems(judged(lambda at: 100 + 10 * (at % 60 > 30))) == {}


def test_a_slow_leak_is_found_in_its_process_and_in_all_together() -> None:
    verdicts = judged(lambda at: 100 + 5 * at / SECONDS)  # 3.3 % between the middles of the windows
    assert set(problems(verdicts)) == {"edge-1/worker-0"}
    assert verdicts["edge-1/worker-0"].growth == pytest.approx(0.033, abs=0.004)
    assert set(problems(judged(lambda at: 100 + 10 * at / SECONDS))) == {"edge-1/worker-0", ALL}


def test_what_leaks_in_every_process_by_little_is_found_together() -> None:
    def worker(at: float) -> float:
        return 25 + at / SECONDS  # 0.7 MB: less than an allocator's grain

    verdicts = judged(worker, manager=worker)
    assert set(problems(verdicts)) == {ALL}


def test_one_descriptor_that_is_left_is_named() -> None:
    verdicts = judged(lambda at: 100, left=1)
    assert set(problems(verdicts)) == {"edge-1/worker-0", "manager"}
    assert verdicts["manager"].problems == ("1 descriptors are left",)


def test_a_process_that_was_replaced_did_not_hold() -> None:
    verdicts = judged(lambda at: 100, pid=lambda at: 2 if at < 900 else 3)
    assert problems(verdicts) == {"edge-1/worker-0": ("it was replaced",)}


def test_a_process_that_was_not_always_there_did_not_hold() -> None:
    always = Held("manager", 1, 80 * MB, 0, QUIET)
    whole, part = Sample(0, (always, Held("node", 2, MB, 0, 5))), Sample(0, (always,))
    during = [Sample(at, (whole if at < 900 else part).held) for at in range(0, SECONDS, 5)]
    verdicts = {verdict.name: verdict for verdict in judge(whole, during, part)}
    assert verdicts["node"].problems == ("it was not there all the time",)
    assert verdicts["manager"].problems == ()


def test_the_windows_lie_at_the_ends_of_what_follows_the_warm_up() -> None:
    first, last = windows([Sample(at, ()) for at in range(0, 1801, 5)])
    assert (first[0].at, first[-1].at) == (300, 600)
    assert (last[0].at, last[-1].at) == (1500, 1800)
    with pytest.raises(ValueError, match="too few"):
        windows([Sample(at, ()) for at in range(0, 1801, 600)])


def test_a_process_is_measured_while_it_lives() -> None:
    own = Path("/proc/self").resolve().name
    record = ProcessRecord(name="this", kind="worker", pid=int(own), start_time=start_time(int(own)) or 0)
    before = held_by(record)
    assert before is not None
    size = 16 << 20
    private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    with mmap.mmap(-1, size, flags=private) as more, Path("/dev/null").open():
        more.write(b"x" * size)
        held = held_by(record)
    assert held is not None
    assert size * 0.9 <= held.own - before.own <= size * 2
    assert held.pss >= held.own
    assert held.descriptors == before.descriptors + 1
    assert held_by(record.model_copy(update={"start_time": record.start_time + 1})) is None


@pytest.mark.parametrize(("text", "value"), [("1800", 1800), ("30m", 1800), ("90s", 90), ("1h", 3600)])
def test_how_long_is_said_as_people_say_it(text: str, value: float) -> None:
    assert seconds(text) == value


def test_the_table_says_what_did_not_hold() -> None:
    lines = table(list(judged(lambda at: 100, left=2).values())).splitlines()
    assert lines[0].split()[0] == "process"
    assert any(line.startswith("manager") and line.endswith("2 descriptors are left") for line in lines)
