"""The supervisor's control socket: whatever is written to it, at either end, nobody falls over it."""

import asyncio
import contextlib
import json
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from console.core.errors import StageError, UsageError
from console.core.paths import Home
from console.core.stage import control
from console.core.stage.control import (
    LINE_LIMIT,
    SupervisorGone,
    SupervisorStatus,
    ask,
    ask_status,
    read_line,
    serve,
)
from console.core.stage.model import ManagerStatus, Report

STATUS = SupervisorStatus(pid=1, version="1", program="/p", manager=ManagerStatus(state="ready"))
GOOD = json.dumps({"ok": STATUS.model_dump(mode="json")}).encode() + b"\n"
DEEP = b"[" * 100_000 + b"\n"

names = st.sampled_from(["ok", "error", "progress", "what", "next_step", "exit_code", "do", "order", "pid"])
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names | st.text(), inner, max_size=4),
    max_leaves=12,
)
lines = st.one_of(
    st.binary(max_size=80),
    values.map(lambda value: json.dumps(value).encode() + b"\n"),
    st.integers(0, len(GOOD)).map(lambda end: GOOD[:end]),
)
garbage = st.lists(lines, max_size=4).map(b"".join)


@asynccontextmanager
async def home_where(said: bytes) -> AsyncIterator[Home]:
    """A home at whose control socket somebody says this to whoever comes, and hangs up."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(said)
        writer.close()

    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder) / "home")
        home.prepare()
        async with await asyncio.start_unix_server(answer, str(home.control_socket)):
            yield home


async def test_an_answer_is_understood() -> None:
    async with home_where(b'{"progress": "one"}\n' + GOOD) as home:
        heard: list[str] = []
        assert await ask(home, {"do": "status"}, report=heard.append) == STATUS.model_dump(mode="json")
        assert heard == ["one"]
        assert await ask_status(home) == STATUS


@pytest.mark.parametrize(
    "said",
    [
        GOOD[:20],
        b"",
        b"}\n",
        b"[]\n",
        b"null\n",
        b"\xff\n",
        b'{"ok": {"pid": "x"}}\n',
        b'{"error": 7}\n',
        b'"' + b"x" * (LINE_LIMIT + 1) + b'"\n',
        DEEP,
    ],
)
async def test_half_a_line_or_nonsense_is_a_supervisor_that_is_gone(said: bytes) -> None:
    async with home_where(said) as home:
        with pytest.raises(SupervisorGone) as gone:
            await ask_status(home)
        assert gone.value.next_step


@settings(deadline=None)
@given(garbage)
async def test_whatever_answers_only_a_stage_error_comes_of_it(said: bytes) -> None:
    async with home_where(said) as home:
        with contextlib.suppress(StageError):
            assert isinstance(await ask_status(home), SupervisorStatus)


@given(values)
async def test_an_error_is_told_with_its_words_and_an_exit_code_a_command_can_have(error: object) -> None:
    async with home_where(json.dumps({"error": error}).encode() + b"\n") as home:
        with pytest.raises(StageError) as told:
            await ask(home, {"do": "down"})
        assert 0 < told.value.exit_code < 256
        if isinstance(error, dict) and "what" in error:
            assert told.value.what == str(error["what"])


@given(st.binary() | lines)
@example(DEEP)
def test_a_line_is_an_object_or_a_value_error(line: bytes) -> None:
    try:
        assert isinstance(read_line(line), dict)
    except ValueError:
        pass


# --- the supervisor's end


@asynccontextmanager
async def served() -> AsyncIterator[tuple[Home, list[dict[str, Any]]]]:
    """A control socket whose handler notes requests, and refuses what it does not know."""
    taken: list[dict[str, Any]] = []

    async def handler(request: dict[str, Any], report: Report) -> Any:
        if request.get("do") != "status":
            raise UsageError("not known")
        taken.append(request)
        return STATUS

    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder) / "home")
        home.prepare()
        async with await serve(home.control_socket, handler):
            yield home, taken


async def tell(home: Home, said: bytes) -> list[dict[str, Any]]:
    """All that is answered to these bytes."""
    reader, writer = await asyncio.open_unix_connection(str(home.control_socket), limit=2 * LINE_LIMIT)
    writer.write(said)
    writer.write_eof()
    answers = [json.loads(line) async for line in reader]
    writer.close()
    await writer.wait_closed()
    return answers


@settings(deadline=None)
@given(garbage)
@example(DEEP)
@example(b'{"do": "sta')
async def test_whatever_is_asked_each_line_has_its_answer_and_the_next_is_heard(said: bytes) -> None:
    async with served() as (home, _):
        answers = await tell(home, said)
        assert len(answers) == len(said.split(b"\n")) - said.endswith(b"\n") - (not said)
        assert all("ok" in answer or answer["error"]["exit_code"] == 2 for answer in answers)
        assert await ask_status(home) == STATUS


async def test_a_line_without_an_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "LINE_LIMIT", 1024)
    async with served() as (home, taken):
        (answer,) = await tell(home, b'{"do": "status", "x": "' + b"x" * 4096)
        assert "longer than 1024 bytes" in answer["error"]["what"]
        assert taken == []
        assert await ask_status(home) == STATUS
