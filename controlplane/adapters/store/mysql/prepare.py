"""Brings a MySQL or MariaDB database to the present schema, at the start of a stream manager.

Several managers may start at once: whoever has work to do takes a lock of the server's (GET_LOCK, named for
the database), looks again, and migrates alone; the others wait. When the revision is the newest, nothing is
locked and Alembic is not imported. An unknown revision was written by a newer program: nothing is touched.

These servers commit each CREATE and ALTER by itself, so a migration that is torn leaves its first statements
done and its revision unwritten. The next start does it again, and what says "exists already" to that is taken
for done (migrations/mysql_impl.py).

While one manager migrates others of the version before are at work. So a migration expands: it adds tables,
and columns that may be empty or have a default. What is no longer needed is dropped by a later version, when
no program asks for it any more. `docs/howto/run-on-mysql.md` has the rule.
"""

import asyncio
import hashlib
import logging
import time
from collections.abc import Sequence

import structlog
from sqlalchemy import text
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import NullPool

from controlplane.adapters.store import tables as t
from controlplane.adapters.store.migrate import VERSIONS, known_revisions
from controlplane.adapters.store.mysql import connections, faults
from controlplane.adapters.store.mysql.address import Address
from controlplane.adapters.store.mysql.faults import Fault
from controlplane.errors import StartError

log = structlog.get_logger(__name__)

WAIT_S = 10.0  # for a server that is just starting
LOCK_S = 60.0  # for another manager that migrates
PAUSE_S = 0.2
WRITERS_KEPT_S = 7 * 86_400.0

# Compare byte by byte and see a blank at the end, as SQLite does
COLLATIONS = {"MySQL": "utf8mb4_0900_bin", "MariaDB": "utf8mb4_nopad_bin"}


async def prepare(address: Address, *, wait_s: float = WAIT_S, lock_s: float = LOCK_S) -> None:
    """Create or upgrade the tables. StartError when the server stays away, refuses us or is too old, when the
    database is newer than this program, or when somebody else is at it for too long."""
    engine = create_async_engine(
        connections.url_of(address),
        connect_args=connections.arguments_of(address),
        poolclass=NullPool,
        hide_parameters=True,
    )
    give_up = time.monotonic() + wait_s
    try:
        while True:
            try:
                async with engine.connect() as connection:
                    await _prepare(connection, address, lock_s)
                return
            except (DBAPIError, OSError) as error:
                fault = faults.of(error)
                if fault not in (Fault.AWAY, Fault.AGAIN) or time.monotonic() >= give_up:
                    raise _start_error(address, fault, error) from error
            await asyncio.sleep(PAUSE_S)
    finally:
        await engine.dispose()


async def _prepare(connection: AsyncConnection, address: Address, lock_s: float) -> None:
    version = str((await connection.exec_driver_sql("SELECT VERSION()")).scalar())
    if connections.is_too_old(version):
        name, _ = connections.server_of(version)
        oldest = ".".join(map(str, connections.OLDEST[name]))
        raise StartError(
            f"the database {address} is {name} {version}: Showcaller needs {name} {oldest} or newer."
        )
    if not await _is_newest(connection, address):
        await _upgrade_alone(connection, address, version, lock_s)
    await connection.execute(t.writers.delete().where(t.writers.c.at < time.time() - WRITERS_KEPT_S))
    await connection.commit()


async def _upgrade_alone(connection: AsyncConnection, address: Address, version: str, lock_s: float) -> None:
    lock = _lock_of(address)
    await connection.commit()
    if not await _get_lock(connection, lock, lock_s):
        raise StartError(
            f"another stream manager has been bringing the database {address} to the present schema for more "
            f"than {lock_s:.0f} s. Look at its log; start again when it is done."
        )
    try:
        if not await _is_newest(connection, address):
            await _upgrade(connection, version)
            log.info(
                "the database has the present schema", database=str(address), revision=known_revisions()[-1]
            )
    finally:  # a connection that is lost has let go already
        if not connection.closed and not connection.invalidated:
            await connection.execute(text("DO RELEASE_LOCK(:name)"), {"name": lock})
            await connection.commit()


def _lock_of(address: Address) -> str:
    """The server's locks are for all of its databases, and their names have 64 characters at most."""
    return f"showcaller.{hashlib.sha256(address.database.encode()).hexdigest()[:32]}"


async def _get_lock(connection: AsyncConnection, name: str, wait_s: float) -> bool:
    got = await connection.execute(text("SELECT GET_LOCK(:name, :wait)"), {"name": name, "wait": wait_s})
    return bool(got.scalar())


async def _is_newest(connection: AsyncConnection, address: Address) -> bool:
    revision = await _revision(connection)
    known = known_revisions()
    if revision is not None and revision not in known:
        raise StartError(
            f"the database {address} was written by a newer Showcaller (its schema is {revision}, this "
            f"program knows up to {known[-1]}). Run that version, or name another database."
        )
    return revision == known[-1]


async def _revision(connection: AsyncConnection) -> str | None:
    found = await connection.execute(
        text(
            "SELECT 1 FROM information_schema.tables "
            "WHERE table_schema = DATABASE() AND table_name = 'alembic_version'"
        )
    )
    if found.scalar() is None:
        return None
    row = (await connection.exec_driver_sql("SELECT version_num FROM alembic_version")).first()
    return None if row is None else str(row[0])


async def _upgrade(connection: AsyncConnection, version: str) -> None:
    name, _ = connections.server_of(version)
    for statement in _sets_up(COLLATIONS[name]):
        await connection.exec_driver_sql(statement)
    await connection.commit()
    await connection.run_sync(_migrate)
    await connection.commit()


def _sets_up(collation: str) -> Sequence[str]:
    """The database's default is what new tables get; a server's own default may be blind to case."""
    return (
        f"SET SESSION sql_mode = '{connections.STRICT}', default_storage_engine = InnoDB, "
        f"lock_wait_timeout = {connections.IDLE_S}",
        f"ALTER DATABASE CHARACTER SET utf8mb4 COLLATE {collation}",
    )


def _migrate(connection: Connection) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(VERSIONS.parent))
    config.attributes["connection"] = connection
    driver = logging.getLogger("asyncmy")
    level = driver.level
    driver.setLevel(logging.ERROR)  # it would remark on each CREATE that a primary key has no name here
    try:
        command.upgrade(config, "head")
    finally:
        driver.setLevel(level)


def _start_error(address: Address, fault: Fault | None, error: BaseException) -> StartError:
    said = faults.words(error)
    if fault is Fault.REFUSED:
        return StartError(
            f"the database {address} refuses the user {address.user}: {said}. The user needs all rights on a "
            "database of its own; the password is in SHOWCALLER_DATABASE_PASSWORD or in the file that "
            "database.password_file names."
        )
    if fault in (Fault.AWAY, Fault.AGAIN):
        return StartError(
            f"the database {address} does not answer: {said}. See that it runs, then start again."
        )
    return StartError(f"the database {address} cannot be used: {said}.")
