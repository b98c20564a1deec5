"""Which TCP port the stream manager gets, and who sits on the one it cannot have."""

import errno
import os
import socket
from dataclasses import dataclass
from pathlib import Path

from console.core.errors import StageError
from console.core.stage.model import DEFAULT_PORT

SEARCHED = 100  # ports tried after the default one


@dataclass(frozen=True)
class Picked:
    port: int
    holder: str = ""  # who has the default port, when another one had to be picked

    @property
    def note(self) -> str:
        """One sentence for people, when it is not the port they would expect."""
        return (
            f"port {DEFAULT_PORT} is in use by {self.holder}; this stage uses {self.port}"
            if self.holder
            else ""
        )


def pick_port(listen: str, wanted: int | None) -> Picked:
    """The port to listen on. StageError when the wanted one, or the address, cannot be had.

    wanted None: the default, or the next free one and a note that says so. 0: any free one.
    """
    if wanted is not None:
        if wanted == 0 or (holder := _taken(listen, wanted)) is None:
            return Picked(wanted or _any_free(listen))
        raise StageError(
            f"port {wanted} is in use by {holder}",
            "Choose another with --port N, or --port 0 for any free one",
        )
    first = _taken(listen, DEFAULT_PORT)
    if first is None:
        return Picked(DEFAULT_PORT)
    for port in range(DEFAULT_PORT + 1, DEFAULT_PORT + SEARCHED):
        if _free(listen, port):
            return Picked(port, first)
    return Picked(_any_free(listen), first)


def _bind(listen: str, port: int) -> int:
    """Bind and let go again; the port bound. OSError as bind(2) says."""
    family = socket.AF_INET6 if ":" in listen else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        if os.name == "posix":  # as the server will do: a port in TIME_WAIT is free
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((listen, port))
        return int(probe.getsockname()[1])


def _free(listen: str, port: int) -> bool:
    try:
        _bind(listen, port)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return False
        raise _cannot_bind(listen, port, error) from error
    return True


def _taken(listen: str, port: int) -> str | None:
    """None when the port is free, else who has it."""
    return None if _free(listen, port) else who_listens(port)


def _any_free(listen: str) -> int:
    try:
        return _bind(listen, 0)
    except OSError as error:
        raise _cannot_bind(listen, 0, error) from error


def _cannot_bind(listen: str, port: int, error: OSError) -> StageError:
    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        return StageError(
            f"{listen} is not an address of this machine", "Give --listen one of its own, or 0.0.0.0 for all"
        )
    if error.errno == errno.EACCES:
        return StageError(
            f"port {port} may not be used by this user", "Choose one of 1024 or above with --port N"
        )
    return StageError(f"cannot listen on {listen} port {port}: {(error.strerror or str(error)).lower()}")


def who_listens(port: int) -> str:
    """In words: another stage and its folder, a program and its pid, or "another program"."""
    import psutil

    try:
        pids = {
            c.pid
            for c in psutil.net_connections("tcp")
            if c.status == psutil.CONN_LISTEN and c.laddr and c.laddr.port == port
        }
    except (psutil.Error, OSError):
        pids = set()
    for pid in sorted(pid for pid in pids if pid):
        try:
            process = psutil.Process(pid)
            words = process.cmdline()
            if "controlplane" in words and "--data-dir" in words:
                folder = Path(words[words.index("--data-dir") + 1]).parent
                return f"another Showcaller stage, from the folder {folder}"
            return f"{process.name()} (pid {pid})"
        except (psutil.Error, IndexError):
            continue
    return "another program"
