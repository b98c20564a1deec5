"""A stream manager that is killed and started again: nodes, sessions and streams go on."""

import asyncio
import sqlite3
from contextlib import AbstractAsyncContextManager, closing
from pathlib import Path

import pytest

from controlplane import listen
from tests.controlplane.events import Events
from tests.controlplane.fake_node import FakeNode
from tests.controlplane.stage import Show, running
from tests.support.wait import wait_for


class Lives:
    """One stage over several managers: same folder, same port, same nodes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        first = listen.bind("127.0.0.1", 0)
        self.port = first.getsockname()[1]
        first.close()
        self.nodes: dict[str, FakeNode] = {}
        self.last: Show | None = None

    def manager(self) -> AbstractAsyncContextManager[Show]:
        provisioner = None if self.last is None else self.last.provisioner
        bound = listen.bind("127.0.0.1", self.port)
        return running(self.folder, nodes=self.nodes, provisioner=provisioner, bound=bound)


async def test_viewers_and_publishers_see_nothing_of_a_restart(tmp_path: Path) -> None:
    lives = Lives(tmp_path)
    try:
        async with lives.manager() as show:
            lives.last = show
            await show.until({"origin-1": "in_service", "edge-1": "in_service"})
            session = await show.on_air()
            token = show.tokens["main"]
            path = (await show.whep()).headers["Location"]
        async with lives.manager() as show:
            show.tokens["main"] = token
            assert await show.node_states() == {"origin-1": "in_service", "edge-1": "in_service"}
            assert [s["state"] for s in await show.get("/streams")] == ["live"]
            events = Events(show, f"{path}/events")
            await events.until("state", state="live")
            assert (await show.publisher_report(session))["action"] == "continue"
            assert show.board.seats_on("edge-1") == 1
            await wait_for(lambda: show.board.report_of("edge-1"), 5, "the nodes report again")
            assert (await show.http.delete(path)).status_code == 200
            assert not [order for node in lives.nodes.values() for order in node.orders]
            await events.close()
    finally:
        await _end(lives)


async def test_what_died_while_nobody_looked_is_found_and_replaced(tmp_path: Path) -> None:
    lives = Lives(tmp_path)
    try:
        async with lives.manager() as show:
            lives.last = show
            await show.until({"origin-1": "in_service", "edge-1": "in_service"})
            await show.on_air()
            path = (await show.whep()).headers["Location"]
        assert lives.last is not None
        await lives.last.vanish("edge-1")
        lives.last.provisioner.vanish("edge-1")
        async with lives.manager() as show:
            events = Events(show, f"{path}/events")
            await events.until("move")
            await show.until({"origin-1": "in_service", "edge-2": "in_service"})
            assert (await show.whep()).status_code == 201
            await events.close()
    finally:
        await _end(lives)


@pytest.mark.parametrize("managed", [True, False])
async def test_nodes_of_before_they_had_certificates_are_replaced(tmp_path: Path, managed: bool) -> None:
    """Nothing is asked of them, least of all in clear; their viewers are told to move."""
    lives = Lives(tmp_path)
    try:
        async with lives.manager() as show:
            lives.last = show
            await show.until({"origin-1": "in_service", "edge-1": "in_service"})
            await show.on_air()
            path = (await show.whep()).headers["Location"]
        with closing(sqlite3.connect(tmp_path / "showcaller.db")) as database:
            database.execute("UPDATE nodes SET control_fingerprint = NULL, managed = ?", (managed,))
            database.commit()
        old = dict(lives.nodes)
        async with lives.manager() as show:
            states = await show.node_states()
            assert "in_service" not in (states.get("origin-1"), states.get("edge-1"))
            events = Events(show, f"{path}/events")
            await events.until("move")
            await events.close()
            await show.until({"origin-2": "in_service", "edge-2": "in_service"})
            await show.until_gone("edge-1")
            kinds = await show.journal()
            assert "fleet.stopped" not in kinds
            reasons = [entry["message"] for entry in await show.get("/journal?limit=1000")]
            assert [text for text in reasons if "without a certificate" in text]
        assert not [call for node in old.values() for call in node.calls if "sessions" in call][2:]
    finally:
        await _end(lives)


async def test_when_nothing_runs_any_more_names_begin_again(tmp_path: Path) -> None:
    async with running(tmp_path) as show:
        await show.until({"origin-1": "in_service", "edge-1": "in_service"})
        await show.crash("edge-1")
        await show.until({"edge-2": "in_service"})
    async with running(tmp_path) as show:
        await show.until({"origin-1": "in_service", "edge-1": "in_service"})
        assert len(await show.node_states()) == 2
        kinds = await show.journal()
        assert kinds.count("manager.started") == 2
        assert kinds.count("node.faulty") == 1  # ending a stage is no fault of its nodes


async def _end(lives: Lives) -> None:
    for node in lives.nodes.values():
        await asyncio.to_thread(node.stop)
