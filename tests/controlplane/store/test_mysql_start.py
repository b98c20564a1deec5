"""The start of a stream manager on MySQL or MariaDB: its address, its schema, and what is wrong with them."""

import asyncio
import ssl
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from controlplane.adapters.store.migrate import known_revisions
from controlplane.adapters.store.mysql import connections
from controlplane.adapters.store.mysql import prepare as starting
from controlplane.adapters.store.mysql.address import Address, parse
from controlplane.adapters.store.mysql.prepare import prepare
from controlplane.adapters.store.mysql.store import MysqlStore
from controlplane.adapters.store.tables import metadata
from controlplane.errors import StartError
from tests.support.certificates import self_signed
from tests.support.mariadb import PASSWORD, USER, Mariadb, running

# the address


def test_an_address_is_taken_apart() -> None:
    found = parse("mysql://u%40x:p%2Fw@db.example.net:3307/show", tls="off")
    assert found == Address(user="u@x", host="db.example.net", port=3307, database="show", password="p/w")
    assert str(found) == "show at db.example.net:3307"
    assert parse("mariadb://u@[::1]/show") == Address(user="u", host="::1", port=3306, database="show")
    assert str(parse("mysql://u@[::1]/show")) == "show at [::1]:3306"
    local = parse("mysql://u@localhost/show?unix_socket=/run/mysqld/mysqld.sock")
    assert (local.unix_socket, local.tls) == ("/run/mysqld/mysqld.sock", None)


def test_the_password_is_the_addresses_own_or_the_files_or_the_environments(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("of the file\nand a remark\n")
    for url, file, expected in (
        ("mysql://u:own@localhost/d", secret, "own"),
        ("mysql://u@localhost/d", secret, "of the file"),
        ("mysql://u@localhost/d", None, "of the environment"),
    ):
        assert parse(url, password="of the environment", password_file=file).password == expected
    assert parse("mysql://u@localhost/d").password == ""
    with pytest.raises(StartError, match=r"password of the database, .*/none, cannot be read: No such file"):
        parse("mysql://u@localhost/d", password_file=tmp_path / "none")


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("postgresql://u:SECRET@h/d", "begins with neither"),
        ("mysql://:SECRET@h/d", "user, host and database"),
        ("mysql://u:SECRET@h", "user, host and database"),
        ("mysql://u:SECRET@h/d/e", "user, host and database"),
        ("mysql://u:SECRET@/d", "user, host and database"),
        ("mysql://u:SECRET@h:port/d", "cannot be read"),
        ("mysql://u:SECRET@[h/d", "cannot be read"),
        ("mysql://u:SECRET@h/d?charset=latin1", "'charset' is no part of one"),
        ("mysql://u:SECRET@h/d?x", "cannot be read"),
        ("mysql://u:SECRET@h/" + "d" * 65, "no name that MySQL knows"),
    ],
)
def test_an_address_that_is_none_says_why_and_no_secret(url: str, reason: str) -> None:
    with pytest.raises(StartError, match=reason) as caught:
        parse(url)
    assert "SECRET" not in str(caught.value)


def test_another_machine_is_spoken_to_in_tls_unless_that_is_said() -> None:
    assert parse("mysql://u@localhost/d").tls is None
    assert parse("mysql://u@127.0.0.5/d").tls is None
    far = parse("mysql://u@db.example.net/d").tls
    assert far is not None
    assert (far.verify_mode, far.check_hostname) == (ssl.CERT_REQUIRED, True)
    any_server = parse("mysql://u@db.example.net/d", tls="require").tls
    assert any_server is not None
    assert any_server.verify_mode is ssl.CERT_NONE
    assert parse("mysql://u@db.example.net/d", tls="off").tls is None
    with pytest.raises(StartError, match="authorities"):
        parse("mysql://u@db.example.net/d", tls_ca=Path("/nowhere.pem"))


@pytest.mark.parametrize(
    ("version", "server", "too_old"),
    [
        ("8.0.36", ("MySQL", (8, 0, 36)), False),
        ("8.0.15-cluster", ("MySQL", (8, 0, 15)), True),
        ("5.7.44-log", ("MySQL", (5, 7, 44)), True),
        ("9.1.0", ("MySQL", (9, 1, 0)), False),
        ("10.11.6-MariaDB-0+deb12u1", ("MariaDB", (10, 11, 6)), False),
        ("5.5.5-10.5.29-MariaDB", ("MariaDB", (10, 5, 29)), True),
        ("11.8.2-MariaDB-log", ("MariaDB", (11, 8, 2)), False),
    ],
)
def test_a_servers_version_is_read(version: str, server: Any, too_old: bool) -> None:
    assert connections.server_of(version) == server
    assert connections.is_too_old(version) is too_old


# the schema


@pytest.fixture
def empty(mariadb: Mariadb) -> Any:
    name = mariadb.empty()
    yield mariadb.address(name)
    mariadb.drop(name)


def revision(mariadb: Mariadb, address: Address) -> str:
    return str(mariadb.sql(f"SELECT version_num FROM {address.database}.alembic_version")[0][0])


async def test_the_migrations_make_exactly_the_tables_of_the_program(
    mariadb: Mariadb, empty: Address
) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    await prepare(empty)
    engine = create_async_engine(
        connections.url_of(empty), connect_args=connections.arguments_of(empty), poolclass=NullPool
    )
    async with engine.connect() as connection:
        differences = await connection.run_sync(
            lambda sync: compare_metadata(
                MigrationContext.configure(sync, opts={"compare_type": True}), metadata
            )
        )
    await engine.dispose()
    assert differences == []
    assert revision(mariadb, empty) == known_revisions()[-1]
    tables = mariadb.sql(
        "SELECT table_name, engine, table_collation FROM information_schema.tables "
        f"WHERE table_schema = '{empty.database}'"
    )
    assert {name for name, _, _ in tables} == {*metadata.tables, "alembic_version"}
    assert {(engine, collation) for _, engine, collation in tables} == {("InnoDB", "utf8mb4_nopad_bin")}


async def test_several_managers_may_start_at_once(mariadb: Mariadb, empty: Address) -> None:
    await asyncio.gather(*(prepare(empty) for _ in range(4)))
    assert revision(mariadb, empty) == known_revisions()[-1]


async def test_a_prepared_database_is_left_as_it_is(mariadb: Mariadb, database: Address) -> None:
    name = database.database
    mariadb.sql(f"INSERT INTO {name}.writers VALUES ('old', 1, 5.0), ('new', 1, 1e12)")
    made = f"SELECT table_name, create_time FROM information_schema.tables WHERE table_schema = '{name}'"
    before = sorted(mariadb.sql(made))
    await prepare(database)
    assert sorted(mariadb.sql(made)) == before
    assert mariadb.sql(f"SELECT id FROM {name}.writers") == [
        ("new",)
    ]  # but who has gone long ago is forgotten


async def test_a_migration_that_was_torn_is_gone_on_with(mariadb: Mariadb, empty: Address) -> None:
    """Its first statements are done, its revision is not written: whichever of them they were."""
    await prepare(empty)
    name = empty.database
    mariadb.sql(
        f"UPDATE {name}.alembic_version SET version_num = '0003'",
        f"ALTER TABLE {name}.node_groups DROP COLUMN scaled_down_at",  # the last of three that 0004 adds
        f"DROP TABLE {name}.writers, {name}.events",
    )
    await prepare(empty)
    assert revision(mariadb, empty) == known_revisions()[-1]
    columns = [row[0] for row in mariadb.sql(f"SHOW COLUMNS IN {name}.node_groups")]
    assert {"policy", "scaled_up_at", "scaled_down_at"} <= set(columns)
    mariadb.sql(f"DELETE FROM {name}.alembic_version", f"DROP TABLE {name}.sessions, {name}.journal")
    await prepare(empty)
    assert {row[0] for row in mariadb.sql(f"SHOW TABLES IN {name}")} == {*metadata.tables, "alembic_version"}


async def test_a_newer_database_is_left_alone(mariadb: Mariadb, database: Address) -> None:
    mariadb.sql(f"UPDATE {database.database}.alembic_version SET version_num = '9999'")
    with pytest.raises(StartError, match=r"newer Showcaller.*9999.*Run that version"):
        await prepare(database)


async def test_whoever_migrates_is_waited_for_and_not_for_ever(mariadb: Mariadb, empty: Address) -> None:
    engine = create_async_engine(
        connections.url_of(empty), connect_args=connections.arguments_of(empty), poolclass=NullPool
    )
    async with engine.connect() as other:
        assert await starting._get_lock(other, starting._lock_of(empty), 1.0)
        with pytest.raises(StartError, match=r"another stream manager has been .* for more than 0 s"):
            await prepare(empty, lock_s=0.1)
        waiting = asyncio.ensure_future(prepare(empty))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(waiting), 0.2)
    await engine.dispose()
    await waiting
    assert revision(mariadb, empty) == known_revisions()[-1]


# what is wrong


async def test_a_wrong_password_or_database_says_what_to_do(mariadb: Mariadb, empty: Address) -> None:
    wrong = mariadb.address(empty.database, password="WRONG")
    with pytest.raises(
        StartError, match=rf"refuses the user {USER}: Access denied.*SHOWCALLER_DATABASE_PASSWORD"
    ):
        await prepare(wrong)
    with pytest.raises(StartError, match=r"refuses the user .*not_ours") as caught:
        await prepare(mariadb.address("not_ours"))
    assert PASSWORD not in str(caught.value)
    with pytest.raises(StartError, match=r"refuses the user .*Unknown database 'show_none'"):
        await prepare(mariadb.address("show_none"))


async def test_a_server_that_is_too_old_is_refused(empty: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(connections.OLDEST, "MariaDB", (99, 1, 0))
    with pytest.raises(StartError, match=r"is MariaDB 1\d\..*: Showcaller needs MariaDB 99\.1\.0 or newer"):
        await prepare(empty)


async def test_a_server_that_is_just_starting_is_waited_for(own_mariadb: Mariadb) -> None:
    name = own_mariadb.empty()
    own_mariadb.stop()
    with pytest.raises(StartError, match=rf"{name} at 127\.0\.0\.1:\d+ does not answer: .*See that it runs"):
        await prepare(own_mariadb.address(name), wait_s=0.1)
    waiting = asyncio.ensure_future(prepare(own_mariadb.address(name)))
    await asyncio.to_thread(own_mariadb.start)
    await waiting
    assert revision(own_mariadb, own_mariadb.address(name)) == known_revisions()[-1]


# the way there


async def test_a_unix_socket_is_a_way_to_it(mariadb: Mariadb, empty: Address) -> None:
    address = parse(
        f"mysql://{USER}@localhost/{empty.database}?unix_socket={mariadb.socket}", password=PASSWORD
    )
    await prepare(address)
    assert revision(mariadb, empty) == known_revisions()[-1]


async def test_tls_is_spoken_and_the_certificate_is_checked(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    own, other = self_signed(tmp_path), self_signed(tmp_path / "other")
    with running(tls=own) as server:
        name = server.empty()
        server.sql(f"ALTER USER {USER} REQUIRE SSL")
        url = f"mysql://{USER}@127.0.0.1:{server.port}/{name}"
        with pytest.raises(StartError, match="refuses the user"):
            await prepare(parse(url, password=PASSWORD))
        with pytest.raises(StartError, match="certificate verify failed"):
            await prepare(parse(url, password=PASSWORD, tls="verify", tls_ca=other.cert), wait_s=0.0)
        checked = parse(url, password=PASSWORD, tls="verify", tls_ca=own.cert)
        await prepare(checked)
        for address in (checked, parse(url, password=PASSWORD, tls="require")):
            store = MysqlStore(address)
            assert await store.read(lambda tx: tx.nodes()) == []
            await store.close()
