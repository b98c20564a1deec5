"""The crowd: who comes when, how each asks, and what became of it.

Open loop: a viewer comes when it was to, whatever became of those before. Members of one party come within
`TOGETHER_S` of each other, as friends do who were sent a link; everybody else is spread over the time, evenly
or by chance (a Poisson process whose count is given). Each is sent to one of the stream managers by turns and
asks the next where that one does not answer.
"""

import asyncio
import os
import random
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlencode

from media.core.sdp import LocalDescription, make_relay_offer, new_credentials
from media.swarm.signalling.http import Answer, Away, Server
from media.swarm.tally import percentile

SDP = b"Content-Type: application/sdp\r\n"
TOGETHER_S = 5.0
FINGERPRINT = ":".join(["5A"] * 32)  # nobody will shake hands


@dataclass(frozen=True)
class Crowd:
    channel: str
    joins: int
    party_size: int  # 1: everybody comes alone
    over_s: float
    even: bool
    stay_s: float | None  # each leaves after so long

    def arrivals(self, chance: random.Random) -> list[tuple[float, int]]:
        """When somebody comes, and of which party, in order."""
        together = min(TOGETHER_S, self.over_s)
        first: dict[int, float] = {}
        order: list[tuple[float, int]] = []
        for number in range(self.joins):
            party = number // self.party_size
            begins = first.setdefault(party, chance.uniform(0.0, self.over_s - together))
            order.append((begins + chance.uniform(0.0, together), party))
        order.sort()
        if self.even:
            times: Iterable[float] = (self.over_s * number / self.joins for number in range(self.joins))
        else:
            times = sorted(chance.uniform(0.0, self.over_s) for _ in range(self.joins))
        return [(at, party) for at, (_, party) in zip(times, order, strict=True)]


@dataclass
class Asked:
    """Of one stream manager, or of all."""

    asked: int = 0
    seated: int = 0
    refused: int = 0
    away: int = 0  # did not answer, and the next one was asked
    ms: "array[float]" = field(default_factory=lambda: array("d"))  # from when it was to come to its answer

    def spread(self, since: int = 0) -> dict[str, float | None]:
        """Of those that were seated after the first so many."""
        points = {"p50": 50, "p95": 95, "p99": 99, "max": 100}
        ordered = sorted(self.ms[since:])
        found = {name: percentile(ordered, percent) for name, percent in points.items()}
        return {name: None if value is None else round(value, 1) for name, value in found.items()}


class Joining:
    def __init__(self, crowd: Crowd, servers: Sequence[Server], chance: random.Random) -> None:
        self.crowd = crowd
        self.all = Asked()
        self.of = {server.url: Asked() for server in servers}
        self.over = asyncio.Event()  # nobody comes any more
        self.lost = 0  # nobody answered, or with a failure
        self.left = 0
        self.sessions: dict[str, None] = {}  # who was told that it has one, and has not left
        self.reasons: Counter[str] = Counter()  # of refusals and losses
        self.late_ms = array("d")  # of our own: how long after it was due each was sent
        self._servers = servers
        self._chance = chance
        self._word = f"{chance.getrandbits(32):08x}"  # parties of another run are others
        self._tasks: set[asyncio.Task[None]] = set()

    async def come(self) -> None:
        """Everybody comes, until it is over; returns when the last one was answered, or has left."""
        loop = asyncio.get_running_loop()
        begins = loop.time()
        for number, (at, party) in enumerate(self.crowd.arrivals(self._chance)):
            due = begins + at
            if (wait := due - loop.time()) > 0.001:
                await asyncio.sleep(wait)
            if self.over.is_set():
                break
            task = loop.create_task(self._join(number, party, due))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _join(self, number: int, party: int, due: float) -> None:
        loop = asyncio.get_running_loop()
        self.all.asked += 1
        self.late_ms.append(1000 * (loop.time() - due))
        local = LocalDescription(new_credentials(os.urandom), FINGERPRINT, (("192.0.2.7", 50_000),))
        offer = make_relay_offer(local).encode()
        path = f"/whep/{self.crowd.channel}"
        if self.crowd.party_size > 1:
            words = {"party": f"{self._word}-{party}", "size": self.crowd.party_size}
            path = f"{path}?{urlencode(words)}"
        first = self._chance.randrange(len(self._servers))
        for server in (*self._servers[first:], *self._servers[:first]):
            counted = self.of[server.url]
            counted.asked += 1
            try:
                answer = await server.ask(b"POST", path.encode(), offer, SDP)
            except Away as error:
                counted.away += 1
                why = str(error)
                continue
            self._answered(answer, counted, 1000 * (answer.at - due))
            if answer.status == 201 and self.crowd.stay_s is not None:
                await asyncio.sleep(self.crowd.stay_s)
                await self._leave(server, answer.headers[b"location"])
            return
        self.lost += 1
        self.reasons[why] += 1

    def _answered(self, answer: Answer, counted: Asked, ms: float) -> None:
        if answer.status == 201:
            self.sessions[answer.headers[b"location"].rpartition(b"/")[2].decode()] = None
            for each in (self.all, counted):
                each.seated += 1
                each.ms.append(ms)
            return
        self.reasons[f"{answer.status} {answer.refusal('it was refused').code}".strip()] += 1
        if answer.status in (429, 503) and b"retry-after" in answer.headers:
            self.all.refused += 1
            counted.refused += 1
        else:
            self.lost += 1

    async def _leave(self, server: Server, resource: bytes) -> None:
        self.sessions.pop(resource.rpartition(b"/")[2].decode(), None)
        for each in (server, *(it for it in self._servers if it is not server)):
            try:
                answer = await each.ask(b"DELETE", resource)
            except Away:
                continue
            if answer.status == 200:
                self.left += 1
                return
