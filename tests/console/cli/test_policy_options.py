"""What the options of `fleet policy set` and `whatif` say of a policy: all that is wrong is named at once."""

import json
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from console.cli import context, policy
from console.core.errors import StageError, UsageError
from controlplane.wire.fleet import Policy
from tests.console.screens.policies import rejected


def test_a_schedule_goes_with_what_else_is_prestaged() -> None:
    said = policy.changes(
        prestage=2, prestage_events=True, schedule=["12 fri 19:30-23:30", "3 12:00-13:00 UTC"]
    )
    assert said is not None
    assert said.model_dump(exclude_unset=True)["prestage"] == {
        "nodes": 2,
        "events": True,
        "schedule": {
            "zone": "UTC",
            "windows": [
                {"nodes": 12, "start": "19:30", "end": "23:30", "days": ["fri"], "date": None},
                {"nodes": 3, "start": "12:00", "end": "13:00", "days": [], "date": None},
            ],
        },
    }


def test_an_option_goes_above_the_file_and_leaves_the_rest_of_it(tmp_path: Path) -> None:
    file = tmp_path / "policy.json"
    file.write_text(Policy(max=20).model_dump_json())
    said = policy.changes(alarm="70%", schedule=["none"], up_cooldown="none", file=file)
    assert said is not None
    assert (said.max, float(said.alarm), said.up_cooldown_s) == (20, 0.7, 0)
    assert said.prestage.schedule.windows == []


def test_each_option_and_each_field_of_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    file = tmp_path / "policy.json"
    file.write_text(json.dumps({"colour": "red", "min": "few", "max": 4, "prestage": [1]}))
    with pytest.raises(policy.WrongOptions) as wrong:
        policy.changes(up_cooldown="-5s", spend_cap="much", schedule=["12 fri"], file=file)
    said = str(wrong.value)
    for fault in (
        "--up-cooldown: '-5s' is not a duration",
        "--spend-cap: 'much' is not a number",
        "--schedule: '12 fri' is no window",
        "colour: there is no such field",
        'min: "few" is no whole number',
        "prestage: [1] is no object",
    ):
        assert fault in said
    assert "Write it like 60s, 5m, 1h30m or 7d" in said
    assert wrong.value.rest.model_dump(exclude_unset=True) == {"max": 4}


def asked(monkeypatch: pytest.MonkeyPatch, answer: Exception, **options: Any) -> tuple[str, list[Policy]]:
    """What is said, and what the manager was asked about."""
    seen: list[Policy] = []

    class Manager:
        async def check_policy(self, group: str, changes: Policy) -> None:
            seen.append(changes)
            raise answer

    def call(api: Any, token_file: Any, use: Any) -> Any:
        made: Coroutine[Any, Any, Any] = use(Manager())
        return context.run(made)

    monkeypatch.setattr(context, "call", call)
    names = policy.changes.__code__.co_varnames[: policy.changes.__code__.co_argcount]
    with pytest.raises(UsageError) as wrong:
        policy.asked("edge", None, None, *(options.get(name) for name in names))
    return str(wrong.value), seen


def test_the_managers_faults_are_named_beside_those_of_the_form(monkeypatch: pytest.MonkeyPatch) -> None:
    refusal = rejected("policy_refused", "The policy cannot be used", faults={"alarm": "7 is not above 0"})
    said, seen = asked(monkeypatch, refusal, alarm="7", up_cooldown="-5s")
    assert said.startswith("--up-cooldown: '-5s' is not a duration; alarm: 7 is not above 0. ")
    assert [it.model_dump(exclude_unset=True) for it in seen] == [{"alarm": 7}]


def test_where_no_manager_answers_what_is_known_here_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    said, _ = asked(monkeypatch, StageError("no stage is up"), alarm="7", up_cooldown="-5s")
    assert said.startswith("--up-cooldown: '-5s' is not a duration. ")
    assert asked(monkeypatch, StageError("never asked"), up_cooldown="-5s")[1] == []
