"""An edge's relay beside its origin, both engines in this process, over real sockets."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from controlplane.wire.nodes import Role, SessionKind
from media.drive.udp import bind
from media.node.engine import Engine

GOLDEN = Path(__file__).parents[1] / "core" / "golden"


def offer(name: str) -> str:
    return (GOLDEN / f"{name}.sdp").read_bytes().decode()


@pytest.fixture
async def engines() -> AsyncIterator[tuple[Engine, Engine, list[dict[str, Any]]]]:
    """(origin, edge, what the edge said to its agent)"""
    loop = asyncio.get_running_loop()
    said: list[dict[str, Any]] = []
    origin = Engine(loop, Role.ORIGIN, bind(None, dual_stack=False), ["127.0.0.1"], lambda _: None)
    edge = Engine(loop, Role.EDGE, bind(None, dual_stack=False), ["127.0.0.1"], said.append)
    yield origin, edge, said
    edge.shutdown("the test ends")
    origin.shutdown("the test ends")


async def test_a_relay_let_go_while_it_connects_asks_for_nothing_more(engines) -> None:
    origin, edge, said = engines
    origin.create("publisher", SessionKind.WHIP, "main", offer("chromium-publisher"))
    edge.create("viewer", SessionKind.WHEP, "main", offer("chromium-viewer"))
    (asked,) = [event for event in said if event["ev"] == "subscribe"]
    answer = origin.create("relay", SessionKind.RELAY_OUT, "main", asked["offer"]).answer
    edge.subscribed("main", asked["attempt"], "relay", answer)
    assert edge.end_channel("main", "the stream has ended")
    assert len(edge.timers) == 2  # the reports, and a look at who joins; nothing of the relay's
    assert {"ev": "dropped", "channel": "main"} in said  # so that the agent forgets where it was
