"""Fixtures: a stage in service, made anew for each test; and which tests are run on both databases."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.controlplane.stage import Show, kept_on, running

# What a manager does with its rows, and not with a request: on SQLite, and on MariaDB as well
ON_BOTH = ("test_restart", "test_signaling", "test_two_managers")
SQLITES_OWN = (
    "test_nodes_of_before_they_had_certificates_are_replaced",  # made by a migration of then
    "test_only_hashes_of_secrets_are_in_the_database",  # looks into the file
)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    module = metafunc.module.__name__.rpartition(".")[2]
    has_a_stage = not {"show", "pair", "tmp_path"}.isdisjoint(metafunc.fixturenames)
    if module in ON_BOTH and has_a_stage and metafunc.function.__name__ not in SQLITES_OWN:
        metafunc.parametrize("_kept", ["sqlite", "mariadb"], indirect=True)


@pytest.fixture(autouse=True)
def _kept(request: pytest.FixtureRequest) -> Iterator[None]:
    """Where the stages of a test keep their rows."""
    if getattr(request, "param", "sqlite") == "sqlite":
        yield
    else:
        with kept_on(request.getfixturevalue("database")):
            yield


@pytest.fixture
async def show(tmp_path: Path, _kept: None) -> AsyncIterator[Show]:
    """A stream manager with one origin and one edge in service."""
    async with running(tmp_path) as stage:
        await stage.until({"origin-1": "in_service", "edge-1": "in_service"})
        yield stage
