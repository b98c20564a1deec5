"""Brings the database of an embedded stage to the present schema, once, at start.

One manager at a time: a lock file beside the database is held for as long as the manager lives. Under it the
revision in the database is compared with the ones this program knows. When it is the newest, Alembic is not
even imported (it costs a third of a second, and a restarted manager is waited for). An unknown revision was
written by a newer program: nothing is touched.
"""

import contextlib
import os
import sqlite3
from pathlib import Path
from types import TracebackType

from controlplane.errors import StartError

VERSIONS = Path(__file__).parent / "migrations" / "versions"
LOCK_WAIT_S = 5.0


def known_revisions() -> list[str]:
    """The revisions of this program, oldest first: the numbers their files begin with."""
    return sorted(path.name.partition("_")[0] for path in VERSIONS.glob("[0-9]*_*.py"))


class ManagerLock:
    """Held by the one stream manager that uses a database. The kernel lets it go when the process dies."""

    def __init__(self, database: Path) -> None:
        self._path = database.with_name(database.name + ".lock")
        self._fd: int | None = None

    def acquire(self, wait_s: float = LOCK_WAIT_S) -> None:
        """Waits for a predecessor that is just ending; StartError when it stays, or the file is of no use."""
        import fcntl
        import time

        try:
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise self._unusable(error) from error
        deadline = time.monotonic() + wait_s
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    holder = os.pread(fd, 32, 0).decode(errors="replace").strip()
                    os.close(fd)
                    who = f" (process {holder})" if holder else ""
                    raise StartError(
                        f"another stream manager{who} already uses {self._path.parent}. "
                        "End it first (showcaller stage down), or give this one another --data-dir."
                    ) from None
                time.sleep(0.05)
            except OSError as error:  # a file system without locks
                os.close(fd)
                raise self._unusable(error) from error
        with contextlib.suppress(OSError):  # a full disk: the number is for people only
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        self._fd = fd

    def try_acquire(self) -> bool:
        """Whether it could be had at once: no other stream manager uses this folder."""
        try:
            self.acquire(wait_s=0.0)
        except StartError:
            return False
        return True

    def _unusable(self, error: OSError) -> StartError:
        reason = (error.strerror or str(error)).lower()
        return StartError(
            f"the lock of the database, {self._path}, cannot be used: {reason}. "
            "It holds nothing: make it this user's own, or remove it while no stream manager runs."
        )

    def release(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def __enter__(self) -> "ManagerLock":
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def prepare(database: Path, busy_s: float = 5.0) -> None:
    """Create or upgrade the database. StartError when it is locked, newer than this program, or damaged."""
    try:
        revision = _revision(database, busy_s)
        known = known_revisions()
        if revision == known[-1]:
            return
        if revision is not None and revision not in known:
            raise StartError(
                f"the database {database} was written by a newer Showcaller (its schema is {revision}, this "
                f"program knows up to {known[-1]}). Run that version, or move the file away to begin anew."
            )
        _upgrade(database, busy_s)
    except sqlite3.Error as error:
        raise _start_error(database, error) from error


def _start_error(database: Path, error: sqlite3.Error) -> StartError:
    text = str(error)
    if "locked" in text or "busy" in text:
        return StartError(
            f"the database {database} is locked by another program. Close whatever has it open "
            f"(fuser {database} names it), then start again."
        )
    if "not a database" in text or "malformed" in text:
        return StartError(
            f"the database {database} is damaged or not a database at all ({text}). "
            "Put back a copy, or move the file away to begin anew."
        )
    return StartError(
        f"the database {database} cannot be used: {text}. Look at the folder's rights and the disk's room."
    )


def _connect(database: Path, busy_s: float) -> sqlite3.Connection:
    connection = sqlite3.connect(database, timeout=busy_s, isolation_level=None)
    connection.execute(f"PRAGMA busy_timeout={int(busy_s * 1000)}")
    return connection


def _revision(database: Path, busy_s: float) -> str | None:
    """The revision in the database, None when it is new. Takes the write lock once, to see that it can."""
    fresh = not database.exists()
    connection = _connect(database, busy_s)
    try:
        if fresh:
            os.chmod(database, 0o600)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("BEGIN IMMEDIATE")
        try:
            found = connection.execute(
                "SELECT name FROM sqlite_master WHERE type='table' AND name='alembic_version'"
            ).fetchone()
            row = connection.execute("SELECT version_num FROM alembic_version").fetchone() if found else None
        finally:
            connection.execute("ROLLBACK")
    finally:
        connection.close()
    return str(row[0]) if row else None


def _upgrade(database: Path, busy_s: float) -> None:
    from alembic import command
    from alembic.config import Config
    from sqlalchemy import create_engine, event
    from sqlalchemy.engine import Connection
    from sqlalchemy.exc import DBAPIError
    from sqlalchemy.pool import NullPool

    engine = create_engine(
        "sqlite://", creator=lambda: _connect(database, busy_s), poolclass=NullPool, future=True
    )

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    config = Config()
    config.set_main_option("script_location", str(VERSIONS.parent))
    try:
        with engine.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    except DBAPIError as error:
        if isinstance(error.orig, sqlite3.Error):
            raise error.orig from error
        raise
    finally:
        engine.dispose()
