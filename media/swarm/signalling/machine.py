"""What the machine does meanwhile: CPU of each process that has to do with it, and of everything else."""

import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import psutil

DATABASES = ("mariadbd", "mysqld")


@dataclass(frozen=True)
class Share:
    """Of one process, or of several of one kind: cores it took, and CPU for each join."""

    what: str
    cores: float
    ms_a_join: float | None


class Machine:
    """Made when the window begins. A process that cannot be seen (another user's, or on another machine) is
    among everything else."""

    def __init__(self, managers: Sequence[str]) -> None:
        """`managers`: their addresses."""
        self.cores = psutil.cpu_count() or 1
        self._named: list[tuple[str, psutil.Process, float]] = []
        found = _listening()
        for url in managers:
            if (pid := found.get(_port(url))) is not None and _is_here(urlsplit(url).hostname or ""):
                self._take(f"stream manager {url}", psutil.Process(pid))
        for process in psutil.process_iter(["name"]):
            if process.info["name"] in DATABASES:
                self._take("database", process)
        self._take("swarm", psutil.Process())
        self._at = time.monotonic()
        self._busy = _busy()

    def _take(self, what: str, process: psutil.Process) -> None:
        try:
            self._named.append((what, process, _cpu(process)))
        except psutil.Error:
            pass

    def shares(self, joins: int) -> list[Share]:
        """From the beginning until now; "everything else" is what no process of ours took."""
        took = max(time.monotonic() - self._at, 1e-3)
        seconds: dict[str, float] = {}
        for what, process, before in self._named:
            try:
                seconds[what] = seconds.get(what, 0.0) + _cpu(process) - before
            except psutil.Error:  # it has ended: what it took is everything else's
                continue
        rest = max(0.0, _busy() - self._busy - sum(seconds.values()))
        shares = [
            Share(what, round(cpu / took, 3), round(1000 * cpu / joins, 3) if joins else None)
            for what, cpu in seconds.items()
        ]
        return [*shares, Share("everything else", round(rest / took, 3), None)]


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _busy() -> float:
    """Seconds of all cores since the start that were not idle."""
    times = psutil.cpu_times()
    return float(sum(times[:8]) - times.idle - getattr(times, "iowait", 0.0))  # guests are in user


def _listening() -> dict[int, int]:
    """Port -> who listens on it, as far as we may see."""
    try:
        connections = psutil.net_connections("tcp")
    except psutil.AccessDenied:  # macOS tells root alone
        return {}
    return {
        it.laddr.port: it.pid
        for it in connections
        if it.status == psutil.CONN_LISTEN and it.laddr and it.pid is not None
    }


def _port(url: str) -> int:
    parts = urlsplit(url)
    return parts.port or (443 if parts.scheme == "https" else 80)


def _is_here(host: str) -> bool:
    """Whether this machine has the address."""
    ours = {it.address for addresses in psutil.net_if_addrs().values() for it in addresses}
    try:
        return any(str(info[4][0]) in ours for info in socket.getaddrinfo(host, None))
    except OSError:
        return False
