"""Which port the stream manager gets."""

import os
import socket
from collections.abc import Iterator

import pytest

from console.core import stage
from console.core.errors import StageError
from console.core.stage import ports
from tests.console.core.stage.conftest import StageUnderTest


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_the_default_is_taken_when_it_is_free(monkeypatch: pytest.MonkeyPatch, taken: int) -> None:
    free = ports.pick_port("127.0.0.1", 0).port
    monkeypatch.setattr(ports, "DEFAULT_PORT", free)
    assert ports.pick_port("127.0.0.1", None) == ports.Picked(free)


def test_a_taken_default_gives_the_next_free_one_and_says_who_has_it(
    monkeypatch: pytest.MonkeyPatch, taken: int
) -> None:
    monkeypatch.setattr(ports, "DEFAULT_PORT", taken)
    picked = ports.pick_port("127.0.0.1", None)
    assert picked.port != taken
    assert f"pid {os.getpid()}" in picked.note
    assert str(picked.port) in picked.note


def test_a_port_asked_for_and_taken_is_an_error(taken: int) -> None:
    with pytest.raises(StageError, match=f"port {taken} is in use by") as refused:
        ports.pick_port("127.0.0.1", taken)
    assert refused.value.exit_code == 1
    assert "--port" in refused.value.next_step


@pytest.mark.parametrize("address", ["192.0.2.254", "no.such.host.invalid"])
def test_an_address_of_another_machine_is_refused(address: str) -> None:
    with pytest.raises(StageError, match="not an address of this machine"):
        ports.pick_port(address, 0)


@pytest.mark.stage
async def test_another_stage_on_the_port_is_named_by_its_folder_and_nothing_is_left(
    running: StageUnderTest, tmp_path: object
) -> None:
    await running.up()
    place = stage.locate(running.home)
    assert place is not None
    other = StageUnderTest(running.home.root.parent / "other")
    with pytest.raises(StageError, match=str(running.home.root)):
        await stage.up(other.options(port=place.port))
    assert other.pids() == {}
    await running.down()
