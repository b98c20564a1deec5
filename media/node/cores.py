"""How many processor cores this process may really use: one worker each.

`os.cpu_count` tells of the machine. Fewer may be ours: by affinity (sched_setaffinity(2), taskset, cpusets)
and by a quota of the control group we are in or of one above it: `cpu.max` in version 2
(admin-guide/cgroup-v2 of the kernel's documentation), `cpu.cfs_quota_us` over `cpu.cfs_period_us` in version
1 (scheduler/sched-bwc). A part of a core is none: a worker with half a core to itself is stopped for half of
each period, 50 ms at the usual 100, and its viewers' frames with it.

Only the standard library is imported here: workers are launched before the agent loads its own packages.
"""

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

GROUPS = Path("/sys/fs/cgroup")
OWN_GROUPS = Path("/proc/self/cgroup")


def usable_cores(groups: Path = GROUPS, own: Path = OWN_GROUPS) -> int:
    """Whole cores, at least 1. `groups`: where control groups are mounted; `own`: which ones we are in."""
    cores = float(len(os.sched_getaffinity(0)))
    for quota in _quotas(groups, own):
        cores = min(cores, quota)
    return max(1, int(cores))


def _quotas(groups: Path, own: Path) -> Iterator[float]:
    """The quotas of our groups and of all above them, in cores; nothing for those without one.

    In a container /proc/self/cgroup may name a path of the machine's that is not mounted here: what is there
    is our own group then, at the top.
    """
    for line in _read(own).splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]  # cgroups(7)
        if not controllers:
            for folder in _upwards(groups, path):
                quota, period = [*_read(folder / "cpu.max").split(), "", ""][:2]
                yield from _quota(quota, period)
        elif "cpu" in controllers.split(","):
            for mount in {"cpu", controllers}:
                for folder in _upwards(groups / mount, path):
                    quota, period = (_read(folder / f"cpu.cfs_{what}_us") for what in ("quota", "period"))
                    yield from _quota(quota, period)


def _upwards(mount: Path, path: str) -> Iterator[Path]:
    """The folder of a group, and those above it up to the mount."""
    inside = PurePosixPath(path.strip().lstrip("/"))
    if ".." in inside.parts:  # a group outside of our cgroup namespace (cgroup_namespaces(7))
        inside = PurePosixPath()
    for part in (inside, *inside.parents):
        yield mount / part


def _quota(quota: str, period: str) -> Iterator[float]:
    """Microseconds of processor time a period of microseconds; "max" and -1 are none."""
    try:
        time, each = int(quota), int(period)
    except ValueError:
        return
    if time > 0 and each > 0:
        yield time / each


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""  # not there, or not for us to see
