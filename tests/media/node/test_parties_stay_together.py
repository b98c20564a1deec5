"""A node of two workers: who watches together is on one of them, and the node is filled evenly."""

import asyncio
import os
import signal

import pytest

from tests.media.node.crowds import udp_port
from tests.media.node.stand import SessionRefused, Stand, Watcher, until


async def test_a_party_is_on_one_worker_and_moves_as_one(nodes: Stand) -> None:
    node = await nodes.node("edge", "edge-1", "--workers", "2")
    edge = nodes.manager.nodes["edge-1"]
    ports = {worker.udp_port: worker.pid for worker in edge.enrol.workers}
    watchers: list[Watcher] = []

    async def joins(party: str | None) -> int:
        """The UDP port of the worker that answers."""
        watcher = Watcher()
        watchers.append(watcher)
        await watcher.offer_only(nodes.manager, "edge-1", "main", party)
        return udp_port(watcher.answer)

    try:
        # Together in one moment, as a party comes.
        first = set(await asyncio.gather(*(joins("one") for _ in range(4))))
        second = set(await asyncio.gather(*(joins("another") for _ in range(3))))
        assert len(first) == len(second) == 1
        assert first | second == set(ports)
        assert {await joins(None)} == second, "a stranger goes where there is most room"
        with pytest.raises(SessionRefused) as refused:
            await joins("no party, <b>")
        assert refused.value.status == 400

        (dead,) = first
        os.kill(ports[dead], signal.SIGKILL)
        lost = {watcher.session for watcher in watchers[:4]}
        await until(lambda: lost <= set(edge.ended), "its sessions are reported as ended")
        again = set(await asyncio.gather(*(joins("one") for _ in range(4))))
        assert len(again) == 1, "they meet again, on whichever worker there is most room on"
        await until(lambda: len(node.worker_pids()) == 2, "another worker runs")
        assert {await joins("another")} == second
    finally:
        await asyncio.gather(*(watcher.close() for watcher in watchers))
