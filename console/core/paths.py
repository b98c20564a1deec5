"""Where a stage keeps its things. Everything below one home folder:

    data/     showcaller.db, signing.key, metrics.token
    config/   console.toml, manager.toml, operator.token (where no keyring works)
    logs/     NAME.log
    run/      stage.json, lock, processes/*.json, publishers/

`SHOWCALLER_HOME` moves all of it; the default is the platform's own folder for application data. Sockets live
in run/ too, unless the path would be longer than a Unix socket's may be (108 bytes, 104 on macOS): then they,
and only they, go to a short runtime folder that belongs to this user alone.
"""

import errno
import hashlib
import os
import stat
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from console.core.errors import StageError

SOCKET_PATH_BYTES = 104 if sys.platform == "darwin" else 108  # with the closing zero
LONGEST_SOCKET_NAME = 24


@dataclass(frozen=True)
class Home:
    """The folders of one stage. `root` is absolute; nothing is created until `prepare()`."""

    root: Path

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def config(self) -> Path:
        return self.root / "config"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def run(self) -> Path:
        return self.root / "run"

    @property
    def processes(self) -> Path:
        """The records of who started which process (controlplane.wire.processes)."""
        return self.run / "processes"

    @property
    def publishers(self) -> Path:
        """What the supervisor keeps on air: one 0600 file a channel."""
        return self.run / "publishers"

    @property
    def lock(self) -> Path:
        return self.run / "lock"

    @property
    def stage_file(self) -> Path:
        return self.run / "stage.json"

    @property
    def control_socket(self) -> Path:
        return self.sockets() / "supervisor.sock"

    def log(self, name: str) -> Path:
        return self.logs / f"{name}.log"

    def sockets(self, environment: Mapping[str, str] = os.environ) -> Path:
        """The folder for sockets: run/, or a short one where run/ is too long for a socket's path."""
        if len(os.fsencode(self.run)) + 1 + LONGEST_SOCKET_NAME < SOCKET_PATH_BYTES:
            return self.run
        uid = os.getuid() if hasattr(os, "getuid") else 0
        place = hashlib.sha256(os.fsencode(self.root)).hexdigest()[:16]
        runtime = environment.get("XDG_RUNTIME_DIR", "")
        tail = Path(f"showcaller-{uid}") / place
        longest = len(os.fsencode(runtime)) + len(str(tail)) + 2 + LONGEST_SOCKET_NAME
        base = Path(runtime) if runtime and longest < SOCKET_PATH_BYTES else Path("/tmp")
        return base / tail

    def prepare(self) -> None:
        """Create the folders, private to this user. StageError says why when that cannot be."""
        for folder in (
            self.root,
            self.data,
            self.config,
            self.logs,
            self.run,
            self.processes,
            self.publishers,
        ):
            _make_private(folder)
        sockets = self.sockets()
        if sockets != self.run:
            _make_private(sockets.parent)
            _make_private(sockets)
        try:
            with tempfile.TemporaryFile(dir=self.run) as probe:
                probe.write(b"showcaller" * 1024)
                probe.flush()
        except OSError as error:
            raise unusable(self.run, error) from error


def home_from(environment: Mapping[str, str] = os.environ) -> Home:
    """SHOWCALLER_HOME, or the platform's folder for application data."""
    named = environment.get("SHOWCALLER_HOME", "")
    if named:
        return Home(Path(named).expanduser().absolute())
    import platformdirs

    return Home(Path(platformdirs.user_data_dir("showcaller", appauthor=False)).absolute())


def unusable(path: Path, error: OSError) -> StageError:
    """The same words wherever the home cannot be written."""
    reason = (error.strerror or str(error)).lower()
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StageError(
            f"no room left to write {path} ({reason})", "Free some disk space, or move SHOWCALLER_HOME"
        )
    return StageError(
        f"cannot write {path} ({reason})",
        "Make it writable, or set SHOWCALLER_HOME to a folder that is",
    )


def _make_private(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if sys.platform == "win32":
            return
        status = folder.stat()
        if status.st_uid != os.getuid():
            raise StageError(
                f"{folder} belongs to another user", "Set SHOWCALLER_HOME to a folder of your own"
            )
        if stat.S_IMODE(status.st_mode) & 0o022:
            folder.chmod(stat.S_IMODE(status.st_mode) & ~0o022)
    except OSError as error:
        raise unusable(folder, error) from error
