"""Commands that need not load first: a process that has loaded `showcaller` forks for each of them.

Nearly all of what a command costs is the loading of its modules, and the tests give hundreds of them. What
runs here is the same code in a process of its own, with its own words, environment, folder and standard
streams, and it ends as any Python program ends. As a user starts them are started: the first of each kind
(`fleet add`), which shows that it loads all it needs; one whose environment is another, but for variables
SHOWCALLER_*; all that a test starts by itself; and what is measured (bench/).

    done = run(["nodes", "--json"], environment(home), timeout=30.0)

Run as a program this file is the process that forks. It is told by a socket: a message is a command (JSON),
and brings its standard streams and one more, where its pid and at its end its code are said. Between the two
there is a process that waits for the command, so that many may run at the same time.
"""

import atexit
import contextlib
import functools
import gc
import importlib
import json
import os
import pkgutil
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
LOADED = ("console.cli", "console.core", "controlplane.wire")
LATER = ("anyio._backends._asyncio", "httpcore._async", "psutil", "websockets.asyncio.client")  # when used
LARGEST = 1 << 18  # bytes of a command
CHUNK = 1 << 16
START_S = 60.0
OURS = dict(os.environ)


def command_line(*words: str) -> list[str]:
    """`showcaller WORDS` as this environment installed it."""
    return [str(Path(sys.executable).parent / "showcaller"), *words]


def run(
    words: Sequence[str], env: Mapping[str, str], timeout: float, *, under: Sequence[str] = ()
) -> "subprocess.CompletedProcess[str]":
    """`showcaller WORDS` to its end, with nothing to read; what it writes is text, and its code is not looked
    at. `under`: a command that runs it. Raises subprocess.TimeoutExpired."""
    kind = tuple(words[:1]) if words[1:2] and words[1].startswith("-") else tuple(words[:2])
    if kind in _given and not under and _others(env) == _others(OURS) and "PYTEST_CURRENT_TEST" in os.environ:
        return _forking().run(command_line(*words), env, timeout)
    _given.add(kind)
    return subprocess.run(
        [*under, *command_line(*words)],
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


_given: set[tuple[str, ...]] = set()


def _others(env: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in env.items() if not name.startswith(("SHOWCALLER_", "PYTEST_"))}


class Forking:
    """The process that forks, seen from the tests."""

    def __init__(self) -> None:
        self._socket, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with its:
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(its.fileno())],
                pass_fds=(its.fileno(),),
                cwd=ROOT,
                env=OURS,
                stdin=subprocess.DEVNULL,  # of the kinds that a command gets
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )

    def end(self) -> None:
        """It ends when nobody can ask any more."""
        self._socket.close()
        self._process.communicate(timeout=START_S)

    def run(
        self, command: list[str], env: Mapping[str, str], timeout: float
    ) -> "subprocess.CompletedProcess[str]":
        end = time.monotonic() + timeout
        with contextlib.ExitStack() as held:
            said, its = socket.socketpair()
            held.enter_context(said)
            with its, open(os.devnull, "rb") as nothing:
                ends = [os.pipe() for _ in range(2)]
                streams = [held.enter_context(open(read, "rb", buffering=0)) for read, _ in ends]
                message = json.dumps({"command": command, "env": dict(env), "cwd": os.getcwd()}).encode()
                try:
                    handles = [nothing.fileno(), *(write for _, write in ends), its.fileno()]
                    socket.send_fds(self._socket, [message], handles)
                finally:
                    for _, write in ends:
                        os.close(write)
            texts = self._read({said.fileno(): b"", **{stream.fileno(): b"" for stream in streams}}, end)
            assert texts[said.fileno()], f"no command was begun: {self._process.communicate()[1].decode()}"
            pid, *code = texts[said.fileno()].split()
            out, error = (texts[stream.fileno()].decode() for stream in streams)
            if not code:
                os.kill(int(pid), signal.SIGKILL)
                raise subprocess.TimeoutExpired(command, timeout, out, error)
            return subprocess.CompletedProcess(command, int(code[0]), out, error)

    def _read(self, texts: dict[int, bytes], end: float) -> dict[int, bytes]:
        """What comes by each, until all are closed or it is too late."""
        poll = select.poll()
        for handle in texts:
            poll.register(handle, select.POLLIN)
        left = len(texts)
        while left and (wait := end - time.monotonic()) > 0:
            for handle, _ in poll.poll(wait * 1000):
                chunk = os.read(handle, CHUNK)
                texts[handle] += chunk
                if not chunk:
                    poll.unregister(handle)
                    left -= 1
        return texts


@functools.cache
def _forking() -> Forking:
    forking = Forking()
    atexit.register(forking.end)
    return forking


# The process that forks


def load() -> None:
    """All that the commands are made of, and what they load only when they need it."""
    for name in LOADED:
        package = importlib.import_module(name)
        for found in pkgutil.walk_packages(package.__path__, f"{name}."):
            if not found.name.endswith("__main__"):
                importlib.import_module(found.name)
    for name in LATER:
        importlib.import_module(name)


def serve(number: int) -> None:
    """Returns in the process of a command, ready to be it. `number`: of the socket."""
    asked = socket.socket(fileno=number)
    while True:
        message, handles, _, _ = socket.recv_fds(asked, LARGEST, 4)
        if not message:
            os._exit(0)
        if os.fork() == 0:
            break
        for handle in handles:
            os.close(handle)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
    asked.close()
    if (pid := os.fork()) != 0:
        _wait(pid, handles)
    _become(json.loads(message), handles)


def _wait(pid: int, handles: list[int]) -> None:
    """Between the two: says who it is, and how it ended. Never returns."""
    *streams, said = handles
    for handle in streams:
        os.close(handle)
    os.write(said, f"{pid} ".encode())
    _, status = os.waitpid(pid, 0)
    with contextlib.suppress(BrokenPipeError):  # nobody waits any longer
        os.write(said, str(os.waitstatus_to_exitcode(status)).encode())
    os._exit(0)


def _become(told: dict[str, Any], handles: list[int]) -> None:
    *streams, said = handles
    for number, handle in enumerate(streams):
        os.dup2(handle, number)
    for handle in (*streams, said):
        os.close(handle)
    os.chdir(told["cwd"])
    os.environ.clear()
    os.environ.update(told["env"])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = told["command"]


def main() -> int:
    sys.path[0] = str(Path(sys.executable).parent)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    load()
    gc.collect()
    gc.freeze()
    serve(int(sys.argv[1]))
    from console.cli.entry import main as command

    return command()


if __name__ == "__main__":
    sys.exit(main())
