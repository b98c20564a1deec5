"""What if: a crowd, and what today's policy and a changed one would make of it. The crowd is invented, or it
is the recorded load, this manager's own or what was sent along. Simulated, and read, in a process of its own;
two at once, and the next one is told to come again."""

import math
from collections.abc import Coroutine, Iterator
from decimal import Decimal
from itertools import pairwise
from typing import Any, TypeVar

from controlplane.domain.nodes.model import Group
from controlplane.errors import BadRequest, TooMany, Unavailable
from controlplane.ports.simulator import NothingRecorded, SimulationFailed, Simulator
from controlplane.services.recording import Recording
from controlplane.services.scaling import Scaling, merged
from controlplane.wire.fleet import Point, RecordedCrowd, Span, Unit, WhatIf, WhatIfQuestion, WhatIfView
from controlplane.wire.history import HistoryLine

T = TypeVar("T")

AT_ONCE = 2
LONGEST_S = 7 * 86_400


class Rehearsing:
    def __init__(
        self, scaling: Scaling, recording: Recording, simulator: Simulator, *, node_price: Decimal
    ) -> None:
        """`node_price` in dollars an hour."""
        self._scaling = scaling
        self._recording = recording
        self._simulator = simulator
        self._price = float(node_price)
        self._running = 0

    async def what_if(self, group_id: str, question: WhatIf, now: float) -> WhatIfView:
        """Raises NotFound, BadRequest for a crowd or policy with faults and where nothing is recorded,
        TooMany, Unavailable, StoreBusy."""
        _check(question)
        group = self._scaling.group(group_id)
        policies = [] if group.policy is None else [group.policy]
        if question.changes is not None:
            policies.append(merged(group.policy or self._scaling.usual(group), question.changes))
            self._scaling.check(group, policies[-1])
        if not policies:
            self._scaling.policy(group_id)  # says that there is none, and how to give it one
        boot_s = self._scaling.launch_time(group).seconds if question.boot_s is None else question.boot_s
        if question.crowd is not None:
            policies = [it.model_copy(update={"unit": Unit.CONNECTIONS.value}) for it in policies]
        past = await self._past(group, question, now)
        told = WhatIfQuestion(
            policies=policies,
            crowd=question.crowd or [],
            past=past,
            today=group.policy is not None,
            party=question.party,
            boot_s=boot_s,
            price=self._price,
            began=now if question.began is None else question.began,
            expected=[self._scaling.crowds(group)] * len(policies)
            if past is None
            else [await self._scaling.expected_during(group, it, past.start, past.end) for it in policies],
        )
        tried = await self._ask(self._simulator.simulate(told))
        return WhatIfView(
            boot_s=boot_s,
            price=self._price,
            today=tried.courses[0] if group.policy is not None else None,
            changed=tried.courses[-1] if question.changes is not None else None,
            recorded=tried.recorded,
        )

    async def history(self, group_id: str, span: Span, now: float) -> bytes:
        """A HistoryView as JSON. Raises as what_if."""
        _refuse(_span_faults(span))
        past = await self._kept(self._scaling.group(group_id), span, now)
        return await self._ask(self._simulator.recorded(past))

    async def _past(self, group: Group, question: WhatIf, now: float) -> RecordedCrowd | None:
        if question.recorded is not None:
            lines = question.recorded
            start, end = _ends(lines)
            return RecordedCrowd(group=lines[0].group, called=group.role, start=start, end=end, lines=lines)
        return None if question.on is None else await self._kept(group, question.on, now)

    async def _kept(self, group: Group, span: Span, now: float) -> RecordedCrowd:
        await self._recording.flush()
        if span.last_s is not None:
            start, end = now - span.last_s, now
        else:
            assert span.start is not None
            assert span.end is not None
            start, end = span.start, span.end
        return RecordedCrowd(
            group=group.id,
            called=group.role,
            start=max(0, math.floor(start)),
            end=math.floor(end) + 1,
            folder=self._recording.place(),
        )

    async def _ask(self, asking: Coroutine[Any, Any, T]) -> T:
        if self._running >= AT_ONCE:
            asking.close()
            raise TooMany(
                f"{AT_ONCE} are being simulated already. Try again in a moment.",
                code="simulating",
                title="Too much is being simulated",
                retry_after_s=5,
            )
        self._running += 1
        try:
            return await asking
        except NothingRecorded as error:
            raise BadRequest(
                f"{error}.", code=error.code, title="There is no history to answer from", status=422
            ) from error
        except SimulationFailed as error:
            raise Unavailable(
                f"{error}. Ask about a shorter time, or a smaller crowd.",
                code="simulation_failed",
                title="The simulation failed",
            ) from error
        finally:
            self._running -= 1


def _check(question: WhatIf) -> None:
    """Raises BadRequest that names every fault of a crowd with its place."""
    crowds = {"crowd": question.crowd, "on": question.on, "recorded": question.recorded}
    given = [name for name, crowd in crowds.items() if crowd is not None]
    found: list[str] = []
    if len(given) != 1:
        said = " and ".join(given) if given else "none of them"
        found.append(f"one of crowd, on and recorded is needed, and there is {said}")
    if question.began is not None and question.crowd is None:
        found.append("began: what was recorded has its own time")
    found += _crowd_faults(question.crowd or [])
    found += [] if question.on is None else _span_faults(question.on)
    found += _recorded_faults(question.recorded or [])
    _refuse(found)


def _refuse(found: list[str] | Iterator[str]) -> None:
    if faults := "; ".join(found):
        raise BadRequest(f"{faults}.", code="bad_crowd", title="The crowd cannot be used", status=422)


def _crowd_faults(crowd: list[Point]) -> Iterator[str]:
    if crowd and crowd[0].at_s != 0:
        yield "crowd.0: the first point is at 0"
    for number, (before, after) in enumerate(pairwise(crowd), 1):
        if after.at_s <= before.at_s:
            yield f"crowd.{number}: {after.at_s:g} s is not after {before.at_s:g} s"


def _span_faults(span: Span) -> Iterator[str]:
    ends = (span.start, span.end)
    if (span.last_s is None) == (ends == (None, None)):
        yield "on: it has last_s, or else start and end"
    elif None in ends and span.last_s is None:
        yield "on: start and end belong together"
    if span.start is not None and span.end is not None:
        if span.end <= span.start:
            yield f"on.end: {span.end:g} is not after {span.start:g}"
        elif span.end - span.start > LONGEST_S:
            yield f"on.end: more than {LONGEST_S // 86_400} days after the start"


def _recorded_faults(lines: list[HistoryLine]) -> Iterator[str]:
    for number, line in enumerate(lines):
        if line.group != lines[0].group:
            yield f"recorded.{number}.group: {line.group} is not {lines[0].group}, as before"
            break
    if lines:
        start, end = _ends(lines)
        if end - start > LONGEST_S:
            yield f"recorded: more than {LONGEST_S // 86_400} days lie between the first and the last of it"


def _ends(lines: list[HistoryLine]) -> tuple[int, int]:
    return min(it.at for it in lines), max(it.at + it.seconds for it in lines)
