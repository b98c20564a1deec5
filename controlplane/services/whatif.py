"""What if: a crowd, and what today's policy and a changed one would make of it. Simulated in a process of its
own; two at once, and the next one is told to come again."""

from decimal import Decimal
from itertools import pairwise

from controlplane.errors import BadRequest, TooMany, Unavailable
from controlplane.ports.simulator import SimulationFailed, Simulator
from controlplane.services.scaling import Scaling, merged
from controlplane.wire.fleet import Course, Point, Unit, WhatIf, WhatIfQuestion, WhatIfView

AT_ONCE = 2


class Rehearsing:
    def __init__(self, scaling: Scaling, simulator: Simulator, *, node_price: Decimal) -> None:
        """`node_price` in dollars an hour."""
        self._scaling = scaling
        self._simulator = simulator
        self._price = float(node_price)
        self._running = 0

    async def what_if(self, group_id: str, question: WhatIf, now: float) -> WhatIfView:
        """Raises NotFound, BadRequest for a crowd or policy with faults, TooMany, Unavailable."""
        _check_crowd(question.crowd)
        group = self._scaling.group(group_id)
        policies = [] if group.policy is None else [group.policy]
        if question.changes is not None:
            policies.append(merged(group.policy or self._scaling.usual(group), question.changes))
            self._scaling.check(group, policies[-1])
        if not policies:
            self._scaling.policy(group_id)  # says that there is none, and how to give it one
        boot_s = self._scaling.launch_s(group) if question.boot_s is None else question.boot_s
        told = WhatIfQuestion(
            policies=[it.model_copy(update={"unit": Unit.CONNECTIONS.value}) for it in policies],
            crowd=question.crowd,
            party=question.party,
            boot_s=boot_s,
            price=self._price,
            began=now if question.began is None else question.began,
        )
        courses = await self._simulate(told)
        return WhatIfView(
            boot_s=boot_s,
            price=self._price,
            today=courses[0] if group.policy is not None else None,
            changed=courses[-1] if question.changes is not None else None,
        )

    async def _simulate(self, question: WhatIfQuestion) -> list[Course]:
        if self._running >= AT_ONCE:
            raise TooMany(
                f"{AT_ONCE} are being simulated already. Try again in a moment.",
                code="simulating",
                title="Too much is being simulated",
                retry_after_s=5,
            )
        self._running += 1
        try:
            return await self._simulator.simulate(question)
        except SimulationFailed as error:
            raise Unavailable(
                f"{error}. Ask about a shorter time, or a smaller crowd.",
                code="simulation_failed",
                title="The simulation failed",
            ) from error
        finally:
            self._running -= 1


def _check_crowd(crowd: list[Point]) -> None:
    if crowd[0].at_s != 0:
        raise BadRequest(
            "crowd.0: the first point is at 0.",
            code="bad_crowd",
            title="The crowd cannot be used",
            status=422,
        )
    for number, (before, after) in enumerate(pairwise(crowd), 1):
        if after.at_s <= before.at_s:
            raise BadRequest(
                f"crowd.{number}: {after.at_s:g} s is not after {before.at_s:g} s.",
                code="bad_crowd",
                title="The crowd cannot be used",
                status=422,
            )
