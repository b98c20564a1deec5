"""The whole of it: a fleet comes into service, a crowd joins, both are counted, and the fleet takes leave."""

import asyncio
import random
import signal
import ssl
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from media.publisher.errors import Refused
from media.swarm.signalling.fleet import Fleet
from media.swarm.signalling.http import Server
from media.swarm.signalling.joins import Asked, Crowd, Joining
from media.swarm.signalling.ledger import Ledger
from media.swarm.signalling.machine import Machine
from media.swarm.signalling.show import Display

SETTLE_S = 2.5  # until each node has told of its last viewers, and the managers have told each other
SECOND = 1.0


@dataclass(frozen=True)
class Plan:
    apis: Sequence[str]
    token: str
    nodes: int
    crowd: Crowd
    listen: str  # where the nodes are reached by their managers
    seed: int
    abandon: bool  # nobody takes leave at the end


async def run(plan: Plan, display: Display) -> dict[str, Any]:
    """The figures. A signal ends it: as if nobody else came, or before anybody has come by CancelledError.

    Raises PublishError.
    """
    https = any(url.startswith("https:") for url in plan.apis)
    trust = ssl.create_default_context() if https else None
    servers = [Server(url, trust) for url in plan.apis]
    fleet = Fleet(servers, plan.token, plan.crowd.channel, Ledger(), plan.listen)
    joining = Joining(plan.crowd, servers, random.Random(plan.seed))
    with tempfile.TemporaryDirectory(prefix="showcaller-swarm-") as folder:
        coming_up = asyncio.create_task(_come_up(plan, display, fleet, Path(folder)))
        _on_signals(lambda: joining.over.set() if coming_up.done() else coming_up.cancel())
        try:
            capacity = await coming_up
            return await _storm(plan, display, fleet, joining, capacity)
        finally:
            if plan.abandon:
                await fleet.stop()
            else:
                display.say("the nodes take leave")
                await fleet.leave()
            for server in servers:
                server.close()


def _on_signals(stop: Callable[[], object]) -> None:
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop)
    except NotImplementedError:
        raise Refused("a swarm needs Linux or macOS", "Run it there.") from None


async def _come_up(plan: Plan, display: Display, fleet: Fleet, folder: Path) -> dict[str, int]:
    """The capacity of each edge, once all are in service and the channel is on air."""
    display.say(f"{plan.nodes} edges and an origin come into service")
    await fleet.start(plan.nodes, folder)
    await fleet.go_on_air()
    display.say(f"{plan.crowd.channel} is on air; {plan.crowd.joins} come within {plan.crowd.over_s:g} s")
    return await fleet.capacity()


async def _storm(
    plan: Plan, display: Display, fleet: Fleet, joining: Joining, capacity: dict[str, int]
) -> dict[str, Any]:
    loop, ledger = asyncio.get_running_loop(), fleet.ledger
    machine = Machine(plan.apis)
    began = loop.time()
    coming = asyncio.create_task(joining.come())
    try:
        before = 0
        while not coming.done():
            await asyncio.wait([coming], timeout=SECOND)
            answered = joining.all.seated + joining.all.refused
            display(joining, (answered - before) / SECOND)
            before = answered
        coming.result()
    finally:
        coming.cancel()
    took = loop.time() - began
    shares = machine.shares(joining.all.seated)
    await asyncio.sleep(SETTLE_S)
    rows = {str(row["id"]): row for row in await fleet.rows()}
    held = {session for node in fleet.nodes for session in node.sessions()}
    overfilled = set(ledger.overfilled(capacity)) | {
        name
        for name, most in capacity.items()
        if name in rows and max(int(str(rows[name][it] or 0)) for it in ("connections", "reserved")) > most
    }
    return {
        "joins": {
            "asked": joining.all.asked,
            "seated": joining.all.seated,
            "refused": joining.all.refused,
            # Nobody answered, or with a failure; or it was answered, and no node has it.
            "lost": joining.lost + len(joining.sessions.keys() - held),
            "left": joining.left,
        },
        "took_s": round(took, 1),
        "joins_per_s": round(joining.all.asked / took, 1),
        "join_ms": joining.all.spread(),
        "late_ms": Asked(ms=joining.late_ms).spread(),
        "managers": [
            {"api": url, "asked": it.asked, "seated": it.seated, "refused": it.refused, "away": it.away}
            | it.spread()
            for url, it in joining.of.items()
        ],
        "parties": {"size": plan.crowd.party_size} | asdict(ledger.parties(plan.crowd.party_size, capacity)),
        "nodes": {
            "edges": len(capacity),
            "capacity": sum(capacity.values()),
            "fullest": max(ledger.most.values(), default=0),
            "overfilled": sorted(overfilled),
        },
        "cores": machine.cores,
        "cpu": [asdict(share) for share in shares],
        "reasons": dict(joining.reasons.most_common(5)),
    }
