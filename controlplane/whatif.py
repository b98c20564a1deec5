"""`python -m controlplane.whatif`: simulates in a process of its own, and the manager's loop has its time.

A WhatIfQuestion comes in on stdin, a list of Course goes out on stdout, one for each policy.
"""

import sys
from decimal import Decimal

from pydantic import TypeAdapter

from controlplane.fleet.planner import word
from controlplane.fleet.simulator import Outcome, Simulation, curve
from controlplane.wire.fleet import Course, MomentView, Policy, WhatIfQuestion

COURSES = TypeAdapter(list[Course])
MOST_MOMENTS = 500  # of the decisions: the first ones


def answer(question: WhatIfQuestion) -> list[Course]:
    people = curve([(point.at_s, point.people) for point in question.crowd])
    courses = []
    for policy in question.policies:
        simulation = Simulation(
            policy,
            boot_s=round(question.boot_s),
            price=Decimal(str(question.price)),
            party=question.party,
            began=question.began,
        )
        courses.append(_course(policy, simulation.run(people)))
    return courses


def _course(policy: Policy, outcome: Outcome) -> Course:
    return Course(
        policy=policy,
        minutes=outcome.minutes,
        decisions=[
            MomentView(at=at, decision=word(decision), because=decision.because)
            for at, decision in outcome.decisions[:MOST_MOMENTS]
        ],
        refused=outcome.refused,
        waited_s=outcome.waited_s,
        node_hours=outcome.node_hours,
        cost=float(outcome.cost),
        most_nodes=outcome.most_nodes,
        launches=outcome.launches,
        drains=outcome.drains,
    )


if __name__ == "__main__":
    courses = answer(WhatIfQuestion.model_validate_json(sys.stdin.buffer.read()))
    sys.stdout.buffer.write(COURSES.dump_json(courses))
