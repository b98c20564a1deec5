"""The composition root of a stream manager: everything is made and joined here, and nowhere else.

Order of a start: folders, a record of this very process (whoever launched it may be killed before it writes
one, and nobody would find a manager that holds the database), settings, sockets (so a port in use costs
nothing), the lock and the migrations of the database, services, the nodes of an earlier life, then the
server; `{"ready": true, ...}` on stdout when it answers. The lock is SQLite's: a database on a server is
shared by several managers, which lock each other out while they migrate it. SIGTERM (or SIGHUP) ends the
manager and leaves its nodes running: the next one adopts them. SIGINT, which only a person in the foreground
sends, ends the nodes as well.
"""

import asyncio
import contextlib
import os
import secrets
import signal
import socket
import ssl
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from controlplane import arguments, config, logs
from controlplane.arguments import Arguments
from controlplane.errors import StartError
from controlplane.wire import processes

if TYPE_CHECKING:
    from controlplane.adapters.store.mysql.address import Address

DATABASE = "showcaller.db"
DATABASE_PASSWORD = "SHOWCALLER_DATABASE_PASSWORD"
INTERNAL_PORT = "manager-internal.port"


def main(argv: list[str] | None = None) -> int:
    """Run a stream manager until it is told to end. The process's exit code."""
    given = arguments.parse(argv)
    logs.configure()
    try:
        _folders(given)
        _record(given.run_dir / "processes")
        return _start(given)
    except StartError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    finally:
        processes.forget_self(given.run_dir / "processes")


def _folders(given: Arguments) -> None:
    for folder in (given.data_dir, given.run_dir, given.log_dir):
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise StartError(f"the folder {folder} cannot be made: {error.strerror}.") from error
        if not os.access(folder, os.W_OK | os.X_OK):
            raise StartError(f"the folder {folder} cannot be written to by this user.")


def _record(folder: Path) -> None:
    """Of this process, unless there is a manager already: then this one will not come far."""
    if any(record.name == "manager" for record in processes.read_alive(folder)):
        return
    try:
        processes.record_self_or_child(folder, "manager", "manager", os.getpid())
    except OSError as error:
        raise StartError(f"the folder {folder} cannot be written to: {error.strerror}.") from error


def _start(given: Arguments) -> int:
    settings = config.load(given.config)
    listener = _Listener.open(given)
    try:
        return _run(given, settings, listener)
    finally:
        listener.close()


@dataclass(slots=True)
class _Listener:
    """Sockets and addresses. With TLS, nodes on this machine use a plain loopback port of their own."""

    public: socket.socket
    tls: ssl.SSLContext | None
    internal: socket.socket | None
    api: str
    nodes_url: str

    @classmethod
    def open(cls, given: Arguments) -> "_Listener":
        from controlplane import listen

        tls = listen.tls_context(given.tls_cert, given.tls_key) if given.tls_cert and given.tls_key else None
        public = listen.bind(given.listen, given.port)
        port = public.getsockname()[1]
        scheme = "https" if tls is not None else "http"
        api = given.public_url or f"{scheme}://{listen.public_host(given.listen)}:{port}"
        if tls is None:
            return cls(public, None, None, api, f"http://{listen.local_host(given.listen)}:{port}")
        internal = cls._internal(given.run_dir / INTERNAL_PORT)
        return cls(public, tls, internal, api, f"http://127.0.0.1:{internal.getsockname()[1]}")

    @staticmethod
    def _internal(remembered: Path) -> socket.socket:
        """The same port as in an earlier life if it can be had: nodes that run know it."""
        from controlplane import listen

        with contextlib.suppress(OSError, ValueError, StartError, OverflowError):
            return listen.bind("127.0.0.1", int(remembered.read_text()))
        return listen.bind("127.0.0.1", 0)

    def remember(self, run_dir: Path) -> None:
        """By the one manager of the stage, under its lock: another start must not lead its nodes astray."""
        if self.internal is not None:
            (run_dir / INTERNAL_PORT).write_text(str(self.internal.getsockname()[1]))

    def close(self) -> None:
        self.public.close()
        if self.internal is not None:
            self.internal.close()


def _run(given: Arguments, settings: config.ManagerConfig, listener: _Listener) -> int:
    from controlplane.adapters.store import migrate

    database = given.data_dir / DATABASE
    server = _database_server(given, settings.database)
    with contextlib.ExitStack() as held:
        lock = migrate.ManagerLock(database)
        alone = True
        if server is None:
            held.enter_context(lock)
            migrate.prepare(database)
        else:
            alone = lock.try_acquire()
            held.callback(lock.release)
        listener.remember(given.run_dir)
        runner = held.enter_context(asyncio.Runner(loop_factory=_loop))
        return runner.run(_serve(given, settings, listener, database, server, alone=alone))


def _database_server(given: Arguments, database: config.DatabaseConfig) -> "Address | None":
    """Where it is and who we are there; None: it is SQLite's. What we start does not get the password."""
    password = os.environ.pop(DATABASE_PASSWORD, None)
    url = given.database if given.database is not None else database.url
    if not url:
        return None
    from controlplane.adapters.store.mysql import address

    return address.parse(
        url,
        password=password,
        password_file=Path(database.password_file) if database.password_file else None,
        tls=database.tls,
        tls_ca=Path(database.tls_ca) if database.tls_ca else None,
    )


def _loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:  # not on this platform
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


async def _serve(
    given: Arguments,
    settings: config.ManagerConfig,
    listener: _Listener,
    database: Path,
    database_server: "Address | None",
    *,
    alone: bool,
) -> int:
    """`alone`: no other process uses this data folder, so we may go by what it remembers."""
    from controlplane import server
    from controlplane.compose import compose

    if database_server is not None:
        from controlplane.adapters.store.mysql.prepare import prepare

        await prepare(database_server)
    stage = await compose(
        settings,
        database=database,
        server=database_server,
        manager_id=None if alone else secrets.token_hex(8),
        api=listener.api,
        nodes_url=listener.nodes_url,
        run_dir=given.run_dir,
        log_dir=given.log_dir,
        announce=given.announce,
        launches=given.nodes,
        operator_sha256=os.environ.pop("SHOWCALLER_OPERATOR_SHA256", None),
    )
    stage.spare_the_joins()
    try:
        servers = [server.make(stage, listener.public, listener.tls)]
        if listener.internal is not None:
            servers.append(server.make(stage, listener.internal, None))
        told = await server.serve(stage, servers)
        if told is signal.SIGINT and not await stage.manager.provisioning.end_all():
            print("another stream manager leads: the nodes go on running", file=sys.stderr)
    finally:
        await stage.close()
    return 0
