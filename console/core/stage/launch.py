"""Start a process that outlives us: a session of its own, no input, its log appended to a file, a record."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from console.core.errors import StageError
from console.core.paths import Home, unusable
from controlplane.wire.processes import Kind, ProcessRecord, record_self_or_child

LOG_KEPT_BYTES = 16 * 2**20
DATABASE_PASSWORD = "SHOWCALLER_DATABASE_PASSWORD"
SECRETS = ("SHOWCALLER_TOKEN", "SHOWCALLER_OPERATOR_SHA256", "SHOWCALLER_ENROL_TOKEN", DATABASE_PASSWORD)


@dataclass(frozen=True)
class Launched:
    process: "subprocess.Popen[bytes]"
    record: ProcessRecord | None  # None: it ended at once, or writes its own
    log: Path
    log_start: int  # where its own lines begin in the log, bytes


def module_command(module: str, *arguments: str) -> list[str]:
    """`python -m module`; to be run with `child_environment`."""
    return [sys.executable, "-m", module, *arguments]


def child_environment(secrets: Mapping[str, str]) -> dict[str, str]:
    """Ours without any secret of ours, and only the secrets this child is meant to have.

    PYTHONSAFEPATH: a folder `media` in the person's current folder must not come before ours, neither in the
    child nor in what it starts itself.
    """
    environment = {name: value for name, value in os.environ.items() if name not in SECRETS}
    return {**environment, "PYTHONSAFEPATH": "1", **secrets}


def manager_secrets(operator_sha256: str) -> dict[str, str]:
    """What a stream manager is meant to have, and so whoever starts it."""
    password = os.environ.get(DATABASE_PASSWORD)
    known = {"SHOWCALLER_OPERATOR_SHA256": operator_sha256}
    return known if password is None else known | {DATABASE_PASSWORD: password}


def launch_detached(
    home: Home,
    name: str,
    kind: Kind | None,
    command: Sequence[str],
    *,
    secrets: Mapping[str, str],
    stdout: Path | int,
    inherit: Sequence[int] = (),
) -> Launched:
    """Start it, and write its record (kind None: it does that itself). It inherits the descriptors `inherit`.

    StageError when its log or output cannot be written, or its program cannot be started.
    """
    log = home.log(name)
    try:
        if log.exists() and log.stat().st_size > LOG_KEPT_BYTES:
            os.replace(log, log.with_suffix(".log.1"))
        with log.open("ab") as errors:
            log_start = errors.seek(0, os.SEEK_END)
            if isinstance(stdout, Path):
                out = os.open(stdout, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
            else:
                out = stdout
            try:
                process = _start(list(command), home, out, errors, secrets, inherit)
            finally:
                if isinstance(stdout, Path):
                    os.close(out)
    except OSError as error:
        raise unusable(log, error) from error
    record = None if kind is None else record_self_or_child(home.processes, name, kind, process.pid)
    return Launched(process, record, log, log_start)


def _start(
    command: list[str],
    home: Home,
    out: int,
    errors: IO[bytes],
    secrets: Mapping[str, str],
    inherit: Sequence[int],
) -> "subprocess.Popen[bytes]":
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=errors,
            cwd=home.root,
            env=child_environment(secrets),
            start_new_session=True,
            pass_fds=tuple(inherit),
        )
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise StageError(
            f"cannot start {command[0]} ({reason})",
            "Install Showcaller where this user may run it, and look at `showcaller doctor`",
        ) from error
