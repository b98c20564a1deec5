"""`python -m controlplane.whatif`: simulates and reads the recorded load in a process of its own, and the
manager's loop has its time.

A WhatIfQuestion comes in on stdin, Tried goes out on stdout. With the word `history` it is a RecordedCrowd,
and a HistoryView. Where there is no history to answer from the exit code is NOTHING_RECORDED, and a Problem
says why.
"""

import sys
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from controlplane.adapters.history import first_and_last, read_days
from controlplane.fleet.planner import word
from controlplane.fleet.recorded import Replay, replay, settled, within
from controlplane.fleet.simulator import Outcome, Simulation, curve
from controlplane.wire.base import Problem
from controlplane.wire.fleet import (
    NOTHING_RECORDED,
    Course,
    Expected,
    MomentView,
    Policy,
    RecordedCrowd,
    Tried,
    WhatIfQuestion,
)
from controlplane.wire.history import BadHistory, HistoryView, Recorded

MOST_MOMENTS = 500  # of the decisions: the first ones
LEAST_S = 10  # of a history that is replayed


class NoHistory(BadHistory):
    code = "no_history"


def answer(question: WhatIfQuestion) -> Tried:
    """Raises BadHistory."""
    policies = list(zip(question.policies, question.expected, strict=True))
    if question.past is None:
        people = curve([(point.at_s, point.people) for point in question.crowd])
        return Tried(
            courses=[
                _course(policy, _simulation(question, policy, expected).run(people))
                for policy, expected in policies
            ]
        )
    courses: list[Course] = []
    recorded = _read(question.past)
    first: Replay | None = None
    for policy, expected in policies:
        found = _replay(question.past, recorded, policy.unit)
        first = first or found
        nodes = found.nodes
        if courses or not question.today:
            nodes = settled(policy, next(load for load in found.people if load is not None), nodes)
        simulation = _simulation(
            question, policy, expected, found.coverage.first, nodes, question.past.called
        )
        courses.append(_course(policy, simulation.run(found.people)))
    assert first is not None
    return Tried(courses=courses, recorded=first.coverage)


def view(past: RecordedCrowd) -> HistoryView:
    """Raises BadHistory."""
    recorded = _read(past)
    lines = within(recorded.lines, past.group, past.start, past.end)
    unit = lines[-1].unit if lines else ""
    return HistoryView(coverage=_replay(past, recorded, unit, least_s=1).coverage, lines=lines)


def _simulation(
    question: WhatIfQuestion,
    policy: Policy,
    expected: list[Expected],
    began: float | None = None,
    at_first: int | None = None,
    called: str = "edge",
) -> Simulation:
    return Simulation(
        policy,
        boot_s=round(question.boot_s),
        price=Decimal(str(question.price)),
        party=question.party,
        began=question.began if began is None else began,
        at_first=at_first,
        called=called,
        expected=expected,
    )


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
        least_headroom=min((it.headroom or 0 for it in outcome.minutes if it.known), default=None),
    )


def _read(past: RecordedCrowd) -> Recorded:
    if past.folder is None:
        return Recorded(lines=list(past.lines))
    try:
        return read_days(Path(past.folder), past.start, past.end)
    except OSError as error:
        raise BadHistory(f"{error.filename} cannot be read: {error.strerror}") from error


def _replay(past: RecordedCrowd, recorded: Recorded, unit: str, *, least_s: int = LEAST_S) -> Replay:
    found = replay(recorded, past.group, unit, past.start, past.end)
    if found is not None and found.coverage.known_s >= least_s:
        return found
    much = f"Only {found.coverage.known_s} s are" if found is not None else "Nothing is"
    asked = f"{_moment(past.start)} to {_moment(past.end - 1)} UTC"
    raise NoHistory(f"{much} recorded of {past.group} from {asked}. {_since(past)}")


def _since(past: RecordedCrowd) -> str:
    if past.folder is None:
        return "Name a file with more of it"
    try:
        known = first_and_last(Path(past.folder), past.group)
    except (OSError, BadHistory) as error:
        return f"Since when there is a history is not known: {error}"
    if known is None:
        return "There is none of it yet; its load is recorded from now on: ask again in a few minutes"
    return f"There is one from {_moment(known[0])} to {_moment(known[1])} UTC"


def _moment(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")


def main() -> int:
    asked = sys.stdin.buffer.read()
    try:
        if sys.argv[1:] == ["history"]:
            said = view(RecordedCrowd.model_validate_json(asked)).model_dump_json(exclude_defaults=True)
        else:
            said = answer(WhatIfQuestion.model_validate_json(asked)).model_dump_json()
    except BadHistory as error:
        problem = Problem(
            code=error.code, title="There is no history to answer from", detail=str(error), status=422
        )
        sys.stdout.write(problem.model_dump_json())
        return NOTHING_RECORDED
    sys.stdout.write(said)
    return 0


if __name__ == "__main__":
    sys.exit(main())
