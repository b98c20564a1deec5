"""Connections to a MySQL or MariaDB server: how they are made, set up and limited, and whom we speak to.

What a connection is told when it is made holds for all of its transactions:

- READ COMMITTED where it writes. Under REPEATABLE READ a locking read of a row that is not there keeps others
  from inserting beside it, and nearly every two that then insert end in a deadlock.
- REPEATABLE READ and READ ONLY where it reads: one consistent view from its first statement on, no locks.
- A lock is waited for LOCK_WAIT_S, a statement may take STATEMENT_S, and a transaction that writes and whose
  client says nothing any more (it was stopped, or its machine has lost its power) is undone after HELD_S:
  longer than that nobody waits for its locks, and one of them is that of the lease. MySQL only knows such a
  limit for a connection: there that is cut; one that writes is never idle for so long, as the lease is looked
  at each second. Any other connection is let go after IDLE_S.
- The strict mode, whatever the server's own is: what does not fit is refused and never cut.

No connection is asked whether it still lives before it is used. One that does not is found out by its next
statement, and then the whole transaction is done again on another: see store.py.
"""

import re
from typing import Any

from sqlalchemy import URL, event
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from controlplane.adapters.store.mysql.address import Address

CONNECT_S = 5
LOCK_WAIT_S = 2
STATEMENT_S = 5
HELD_S = 4  # less than a lease is long
IDLE_S = 30
STRICT = "TRADITIONAL"  # strict for all tables, no division by zero, no dates that are none

# MySQL keeps CHECK constraints since 8.0.16, and compares byte by byte with blanks since 8.0.17. MariaDB has
# both for longer, and since 10.6 a CREATE or ALTER of it is done wholly or not at all.
OLDEST = {"MySQL": (8, 0, 17), "MariaDB": (10, 6, 0)}


def server_of(version: str) -> tuple[str, tuple[int, ...]]:
    """Who it is and its number, by `SELECT VERSION()`: ("MariaDB", (10, 11, 6)) of 10.11.6-MariaDB-1."""
    maria = "mariadb" in version.lower()
    numbers = re.findall(r"\d+", version.removeprefix("5.5.5-") if maria else version)[:3]
    return ("MariaDB" if maria else "MySQL"), tuple(map(int, numbers))


def is_too_old(version: str) -> bool:
    name, number = server_of(version)
    return number < OLDEST[name]


def settings(maria: bool, *, writes: bool) -> list[str]:
    """What a new connection says first."""
    level = "READ COMMITTED" if writes else "REPEATABLE READ"
    held = HELD_S if writes else IDLE_S
    return [
        f"SET SESSION TRANSACTION ISOLATION LEVEL {level}",
        f"SET SESSION TRANSACTION READ {'WRITE' if writes else 'ONLY'}",
        f"SET SESSION sql_mode = '{STRICT}', innodb_lock_wait_timeout = {LOCK_WAIT_S}, "
        f"lock_wait_timeout = {LOCK_WAIT_S}, time_zone = '+00:00', "
        + (
            f"max_statement_time = {STATEMENT_S}, wait_timeout = {IDLE_S}, idle_transaction_timeout = {held}"
            if maria
            else f"max_execution_time = {STATEMENT_S * 1000}, wait_timeout = {held}"
        ),
    ]


def url_of(address: Address) -> URL:
    """Without the password: SQLAlchemy shows addresses."""
    return URL.create(
        "mysql+asyncmy",
        username=address.user,
        host=address.host,
        port=address.port,
        database=address.database,
    )


def arguments_of(address: Address) -> dict[str, Any]:
    """For the driver, beside the address."""
    arguments: dict[str, Any] = {
        "password": address.password.encode(),  # as text the driver would send it in latin1
        "charset": "utf8mb4",
        "connect_timeout": CONNECT_S,
        "program_name": "showcaller",
        "local_infile": False,
    }
    if address.unix_socket is not None:
        arguments["unix_socket"] = address.unix_socket
    if address.tls is not None:
        arguments["ssl"] = address.tls
    return arguments


def engine(address: Address, *, writes: bool, connections: int) -> AsyncEngine:
    """At most so many connections; who wants one more waits, so whoever cares for the order waits before."""
    made = create_async_engine(
        url_of(address),
        connect_args=arguments_of(address),
        pool_size=connections,
        max_overflow=0,
        pool_recycle=IDLE_S - 10,
        hide_parameters=True,  # errors are logged, and parameters have people's names in them
    )

    @event.listens_for(made.sync_engine, "connect")
    def _set_up(connection: Any, _record: Any) -> None:
        cursor = connection.cursor()
        cursor.execute("SELECT VERSION()")
        maria = server_of(cursor.fetchone()[0])[0] == "MariaDB"
        for statement in settings(maria, writes=writes):
            cursor.execute(statement)
        cursor.close()

    return made
