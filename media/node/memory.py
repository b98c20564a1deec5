"""How much memory a process of a node holds."""

from pathlib import Path
from resource import getpagesize


def resident_bytes() -> int:
    """Of this process (proc(5), statm)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * getpagesize()
