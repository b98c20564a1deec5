"""A whole crowd joins: 50,000 viewers in 6,250 parties within a minute, on 170 edges, by two stream managers.

Both are on one MariaDB, started for this, that flushes each commit to the disk. Everything is on this
machine: the managers, the database, the nodes and the crowd (`showcaller swarm signalling`: real HTTP and
TLS, reports as real nodes send them, no media). Viewers come by chance, members of a party within five
seconds, each to one of the managers by turns, each over a connection that is kept.

    joins_p99_ms        from the moment a viewer was to come to the answer to its offer, whoever was late.
                        The limit of 100 ms holds where the machine had nothing else to do; else there is
                        none, and the note says what else ran
    joins_lost          that nobody answered, or that were answered and that no node has
    joins_overfilled    nodes that ever had more viewers than they take
    joins_parties_split those that were split although some node had room for all of them
    join_*_ms           CPU of a join: of each manager, of the database, of the nodes and the crowd together
    joins_else_cores    what else ran on the machine meanwhile, in cores
"""

import asyncio
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench.figures import Figure, NotRun
from tests.support import mariadb
from tests.support.managers import Managers, running_managers, swarm_environment
from tests.support.need import find

TITLE = "50,000 joins in 6,250 parties within 60 s, two stream managers on MariaDB, 170 nodes"

NODES, JOINS, PARTY, OVER_S = 170, 50_000, 8, 60
QUIET_CORES = 0.10  # that everything else may take for the limit to hold


async def storm(managers: Managers) -> dict[str, Any]:
    """What the swarm says. Raises RuntimeError where it says nothing."""
    words = [sys.executable, "-m", "media.swarm", "signalling", *managers.words, "--json", "--abandon"]
    words += ["--nodes", str(NODES), "--joins", str(JOINS), "--party-size", str(PARTY), "--over", str(OVER_S)]
    process = await asyncio.create_subprocess_exec(
        *words, env=swarm_environment(managers), stdout=asyncio.subprocess.PIPE
    )
    said, _ = await process.communicate()
    if not said:
        raise RuntimeError("the swarm has ended; see its words above")
    return dict(json.loads(said))


def figures(said: dict[str, Any]) -> list[Figure]:
    shares = {share["what"]: share for share in said["cpu"]}
    rest = shares["everything else"]["cores"]
    quiet = rest <= QUIET_CORES
    others = f"{rest:.2f} of {said['cores']} cores were taken by something else"
    spread, joins = said["join_ms"], said["joins"]
    found = [
        Figure(
            "joins_p99_ms", spread["p99"], "ms", "percentile", at_most=100 if quiet else None, note=others
        ),
        Figure("joins_p50_ms", spread["p50"], "ms", "percentile"),
        Figure("joins_max_ms", spread["max"], "ms", "percentile"),
        Figure("joins_per_s", said["joins_per_s"], "1/s", "count"),
        Figure("joins_seated", joins["seated"], "", "count", at_least=JOINS),
        Figure("joins_lost", joins["lost"], "", "count", at_most=0),
        Figure("joins_overfilled", len(said["nodes"]["overfilled"]), "", "count", at_most=0),
        Figure("joins_parties_split", said["parties"]["could_have_been_whole"], "", "count", at_most=0),
        Figure("joins_sent_late_p99_ms", said["late_ms"]["p99"], "ms", "percentile"),
        Figure("joins_else_cores", rest, "cores", "cost"),
    ]
    managers = [share for what, share in shares.items() if what.startswith("stream manager")]
    for number, share in enumerate(managers, 1):
        found.append(Figure(f"join_manager_{number}_ms", share["ms_a_join"], "ms", "cost"))
    for name in ("database", "swarm"):
        if name in shares:
            found.append(Figure(f"join_{name}_ms", shares[name]["ms_a_join"], "ms", "cost"))
    return found


async def run() -> list[Figure]:
    if find("mariadbd") is None:
        raise NotRun("no MariaDB here: apt-get install mariadb-server-core")
    with mariadb.running() as server, tempfile.TemporaryDirectory() as folder:
        database = server.url(server.fresh())
        with running_managers(Path(folder), 2, database, mariadb.PASSWORD) as managers:
            return figures(await storm(managers))
