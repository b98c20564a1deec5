"""A MariaDB server of the tests' own: in a temporary folder, on a port that the system picked, never as root.

    async def test_something(database: Address) -> None:        # with its tables, and nothing in them
    def test_of_its_end(own_mariadb: Mariadb) -> None:          # a server for this test alone, to be killed

Debian's `mariadb-server-core` has the server and no service: nothing runs before a test asks for it, and what
runs is ended by its pid, also when the tests themselves are killed (PR_SET_PDEATHSIG, by setpriv). One server
serves all tests of a process; each has a database there, whose tables are copied from one that the migrations
have made. It flushes each commit to the disk, as a server does that keeps what it has acknowledged.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncmy
import pytest

from controlplane.adapters.store.mysql.address import Address
from controlplane.adapters.store.mysql.prepare import prepare
from tests.support.certificates import Files
from tests.support.need import find, need
from tests.support.wait import wait_until

USER = "showcaller"
PASSWORD = "ü'\"\\ %:@/ a password"  # of everything that may have to be quoted somewhere
ADMIN = "root"
NOBODY = "nobody"
START_S = 20.0
END_S = 20.0
ROOM = 512 * 2**20
SHARES = (Path("/usr/share/mysql"), Path("/usr/share/mariadb"))
TEMPLATE = "show_template"
PREFIX = "show_"

_QUOTED = PASSWORD.replace("\\", "\\\\").replace("'", "''")
INIT = f"""
CREATE USER IF NOT EXISTS '{USER}'@'%' IDENTIFIED BY '{_QUOTED}';
GRANT ALL PRIVILEGES ON `show\\_%`.* TO '{USER}'@'%';
"""


class Mariadb:
    """A server. `start` may follow `kill`: what it had acknowledged is there again."""

    def __init__(self, program: Path, folder: Path, *options: str) -> None:
        self._program = program
        self._folder = folder
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self._databases = 0
        self._template: dict[str, str] = {}
        self.socket = folder / "socket"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]

    # its life

    def bootstrap(self) -> None:
        """The folder, and in it the system's own tables."""
        data = self._folder / "data"
        data.mkdir()
        (self._folder / "init.sql").write_text(INIT)
        share = next(folder for folder in SHARES if (folder / "mysql_system_tables.sql").exists())
        script = "CREATE DATABASE mysql;\nUSE mysql;\nSET @auth_root_socket = NULL;\n"  # one a line
        for name in ("mysql_system_tables.sql", "mysql_system_tables_data.sql"):
            script += (share / name).read_text()
        self._folder.chmod(0o755)
        if os.geteuid() == 0:
            shutil.chown(self._folder, NOBODY)
            shutil.chown(data, NOBODY)
        options = ["--bootstrap", f"--datadir={data}", "--innodb-flush-log-at-trx-commit=0"]
        done = subprocess.run(
            [*self._command(), *options], input=script.encode(), capture_output=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr.decode(errors="replace")

    def _command(self) -> list[str]:
        """The server with small buffers, as a user who is not root."""
        words = ["setpriv", "--pdeathsig", "KILL"]
        if os.geteuid() == 0:
            words += ["--reuid", NOBODY, "--regid", "nogroup", "--clear-groups"]
        return [
            *(words if find("setpriv") else []),
            str(self._program),
            "--no-defaults",
            *(() if find("setpriv") or os.geteuid() != 0 else (f"--user={NOBODY}",)),
            "--innodb-buffer-pool-size=24M",
            "--innodb-log-file-size=8M",
            "--key-buffer-size=1M",
            "--aria-pagecache-buffer-size=1M",
            "--performance-schema=OFF",
            "--innodb-flush-method=fsync",  # a file system in memory may know no other
        ]

    def start(self) -> None:
        """Returns when it answers."""
        assert self._process is None
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *self._command(),
                    f"--datadir={self._folder / 'data'}",
                    f"--socket={self.socket}",
                    f"--port={self.port}",
                    "--bind-address=127.0.0.1",
                    f"--pid-file={self._folder / 'pid'}",
                    f"--init-file={self._folder / 'init.sql'}",
                    "--skip-name-resolve",
                    "--innodb-flush-log-at-trx-commit=1",
                    "--sync-binlog=1",
                    "--character-set-server=latin1",  # what is right must not come from here
                    *self._options,
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        wait_until(self._answers, START_S, "MariaDB answers")

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log()
        with socket.socket() as asked:
            if asked.connect_ex(("127.0.0.1", self.port)) != 0:
                return False
            asked.settimeout(START_S)
            return len(asked.recv(4)) == 4  # the head of its greeting

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """kill -9: nothing is flushed and nobody is told."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(END_S)
            self._process = None

    def log(self) -> str:
        return (self._folder / "log").read_text(errors="replace")[-4000:]

    # its databases

    def address(self, database: str, **changes: Any) -> Address:
        words = {"user": USER, "host": "127.0.0.1", "port": self.port, "password": PASSWORD} | changes
        return Address(database=database, **words)

    def url(self, database: str) -> str:
        return f"mysql://{USER}@127.0.0.1:{self.port}/{database}"

    def empty(self) -> str:
        """A new database with no tables; its name."""
        self._databases += 1
        name = f"{PREFIX}{self._databases}"
        self.sql(f"CREATE DATABASE {name}")
        return name

    def fresh(self) -> str:
        """A new database with its tables, as the migrations make them; its name."""
        if not self._template:
            self.sql(f"CREATE DATABASE {TEMPLATE}")
            in_thread(lambda: prepare(self.address(TEMPLATE)))
            for (table,) in self.sql(f"SHOW TABLES IN {TEMPLATE}"):
                ((_, made),) = self.sql(f"SHOW CREATE TABLE {TEMPLATE}.{table}")
                self._template[table] = made
        name = self.empty()
        self.sql(
            f"USE {name}",
            *self._template.values(),
            f"INSERT INTO alembic_version SELECT * FROM {TEMPLATE}.alembic_version",
        )
        return name

    def drop(self, database: str) -> None:
        self.sql(f"DROP DATABASE {database}")

    def sql(self, *statements: str, database: str | None = None) -> list[tuple[Any, ...]]:
        """Said by the administrator, each committed at once; the rows of the last. May be called anywhere: it
        has a thread and a loop of its own."""

        async def say() -> list[tuple[Any, ...]]:
            connection = await asyncmy.connect(
                user=ADMIN,
                unix_socket=str(self.socket),
                database=database,
                autocommit=True,
                charset="utf8mb4",
            )
            try:
                async with connection.cursor() as cursor:
                    for statement in statements:
                        await cursor.execute(statement)
                    return list(await cursor.fetchall()) if cursor.description else []
            finally:
                await connection.ensure_closed()

        return in_thread(say)


def in_thread(work: Any) -> Any:
    """Run a coroutine function to its end, whether a loop runs here or not."""
    result: list[Any] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            result.append(asyncio.run(work()))
        except BaseException as error:  # raised again below, in the test
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return result[0]


def _where() -> str | None:
    """In memory where there is room: what is told to be on the disk need not wait for one, and survives the
    end of the server all the same."""
    memory = Path("/dev/shm")
    if os.access(memory, os.W_OK | os.X_OK) and shutil.disk_usage(memory).free > ROOM:
        return str(memory)
    return None


def _shown(files: Files, folder: Path) -> list[str]:
    """A certificate and its key where the server's user may read them; the options that name them."""
    options = []
    for option, path in (("ssl-cert", files.cert), ("ssl-key", files.key)):
        copy = folder / option
        shutil.copyfile(path, copy)
        if os.geteuid() == 0:
            shutil.chown(copy, NOBODY)
        options.append(f"--{option}={copy}")
    return options


@contextlib.contextmanager
def running(*, tls: Files | None = None) -> Iterator[Mariadb]:
    """A server, ended and forgotten at the end; with a certificate, one that speaks TLS to who wants it."""
    program = need("mariadbd")
    folder = Path(tempfile.mkdtemp(prefix="showcaller-mariadb-", dir=_where()))
    server = Mariadb(program, folder, *(() if tls is None else _shown(tls, folder)))
    try:
        server.bootstrap()
        server.start()
        yield server
    finally:
        server.kill()  # nobody needs its tables in order
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def mariadb() -> Iterator[Mariadb]:
    """The server of all tests of this process."""
    with running() as server:
        yield server


@pytest.fixture
def own_mariadb() -> Iterator[Mariadb]:
    """A server for one test."""
    with running() as server:
        yield server


@pytest.fixture
def database(mariadb: Mariadb) -> Iterator[Address]:
    """A database with its tables, for one test."""
    name = mariadb.fresh()
    yield mariadb.address(name)
    mariadb.drop(name)
