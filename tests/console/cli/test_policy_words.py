"""What `fleet policy` says beside the policy itself."""

import pytest

from console.cli.policy import _other_limit, _print
from controlplane.wire.fleet import Policy, PolicyView


@pytest.mark.parametrize(
    ("policy", "takes", "words"),
    [
        (Policy(capacity=10), 400, "one node takes 400; the policy plans with 10"),
        (Policy(capacity=1000), 1500, "one node takes 1,500; the policy plans with 1,000"),
        (Policy(capacity=400), 400, ""),
        (Policy(capacity=10), None, ""),  # a manager that does not tell
        (Policy(unit="mbps", capacity=10), 400, ""),  # counted in something else
    ],
)
def test_what_a_node_takes_is_said_where_the_policy_plans_with_something_else(
    policy: Policy, takes: int | None, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    view = PolicyView(group="edge@local", policy=policy, node_takes=takes)
    assert _other_limit(view) == words
    _print(view, as_json=False)
    load = capsys.readouterr().out.splitlines()[1].split(maxsplit=1)[1]
    assert load == f"in {policy.unit}; {words or f'{policy.capacity} a node'}"
