"""The live feed: in turn, resumed, and back by itself. A scripted server stands where only timing matters."""

import json
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from websockets.asyncio.server import Request, Response, ServerConnection, serve

from console.core import live
from console.core.errors import InsecureError, Rejected
from console.core.live import Link, LinkState, LiveSource, retry_wait
from console.core.model import State
from controlplane.wire.api import JournalEntry, LiveMessage, Snapshot

Script = Callable[[ServerConnection, int], Awaitable[None]]


def snapshot(epoch: str, n: int) -> str:
    body = Snapshot(
        api="a", watch="w", version="1", started_at=0.0, nodes=[], groups=[], streams=[], journal=[]
    )
    return LiveMessage(epoch=epoch, n=n, at=0.0, kind="snapshot", snapshot=body).model_dump_json()


def delta(epoch: str, n: int) -> str:
    return LiveMessage(epoch=epoch, n=n, at=0.0, kind="delta").model_dump_json()


@asynccontextmanager
async def feed(script: Script, asked: list[dict[str, list[str]]]) -> AsyncIterator[str]:
    """A server that plays `script` on each connection and notes what it was asked for."""

    async def play(socket: ServerConnection) -> None:
        assert socket.request is not None
        assert socket.request.headers["Authorization"] == "Bearer token"
        asked.append(parse_qs(urlsplit(socket.request.path).query))
        await script(socket, len(asked))

    async with serve(play, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"


async def read(source: LiveSource, messages: int) -> list[LiveMessage | Link]:
    seen: list[LiveMessage | Link] = []
    async for item in source:
        seen.append(item)
        if sum(isinstance(one, LiveMessage) for one in seen) == messages:
            break
    return seen


async def test_it_resumes_after_the_last_message_and_says_how_the_link_is() -> None:
    async def script(socket: ServerConnection, time: int) -> None:
        if time == 1:
            await socket.send(snapshot("e", 5))
            await socket.send(delta("e", 6))
        else:
            await socket.send(delta("e", 7))

    asked: list[dict[str, list[str]]] = []
    async with feed(script, asked) as api, LiveSource(api, "token", jitter=lambda: 1.0) as source:
        assert source.age_s is None
        seen = await read(source, 3)
        assert source.age_s is not None
        assert source.age_s < 5
    assert asked[:2] == [{}, {"epoch": ["e"], "since": ["6"]}]
    states = [item.state for item in seen if isinstance(item, Link)]
    assert states == [LinkState.CONNECTING, LinkState.UP, LinkState.DOWN, LinkState.UP]
    assert [item.n for item in seen if isinstance(item, LiveMessage)] == [5, 6, 7]


@pytest.mark.parametrize("wrong", [delta("e", 8), delta("other", 6), delta("e", 5)])
async def test_a_message_out_of_turn_makes_it_start_over(wrong: str) -> None:
    async def script(socket: ServerConnection, time: int) -> None:
        await socket.send(snapshot("e", 5))
        if time == 1:
            await socket.send(wrong)
        await socket.wait_closed()

    asked: list[dict[str, list[str]]] = []
    async with feed(script, asked) as api, LiveSource(api, "token", jitter=lambda: 1.0) as source:
        seen = await read(source, 2)
    assert [item.kind for item in seen if isinstance(item, LiveMessage)] == ["snapshot", "snapshot"]
    assert asked == [{}, {}]


async def test_a_silent_feed_is_taken_for_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "SILENCE_S", 0.2)

    async def script(socket: ServerConnection, time: int) -> None:
        await socket.send(snapshot("e", time))
        await socket.wait_closed()

    asked: list[dict[str, list[str]]] = []
    async with feed(script, asked) as api, LiveSource(api, "token", jitter=lambda: 1.0) as source:
        seen = await read(source, 2)
    [down] = [item for item in seen if isinstance(item, Link) and item.state is LinkState.DOWN]
    assert "silent" in down.error


async def test_rubbish_on_the_feed_is_a_lost_link_not_a_crash() -> None:
    async def script(socket: ServerConnection, time: int) -> None:
        await socket.send("{" if time == 1 else snapshot("e", 1))
        await socket.wait_closed()

    asked: list[dict[str, list[str]]] = []
    async with feed(script, asked) as api, LiveSource(api, "token", jitter=lambda: 1.0) as source:
        seen = await read(source, 1)
    assert any(isinstance(item, Link) and item.state is LinkState.DOWN for item in seen)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
right = {"epoch": "e", "n": 1, "at": 0.0, "kind": "delta"}
nearly = st.fixed_dictionaries(
    {name: st.just(value) | values for name, value in right.items()},
    optional={name: values for name in LiveMessage.model_fields if name not in right},
)
said = st.one_of(
    st.text(),
    st.binary(),
    (values | nearly).map(json.dumps),
    st.integers(0, len(snapshot("e", 1))).map(lambda end: snapshot("e", 1)[:end]),
)


@settings(deadline=None)
@given(st.lists(said, max_size=6))
@example(["[" * 100_000, b"\xff", snapshot("e", 1).replace('"at":0.0', '"at":1e999'), ""])
async def test_whatever_the_feed_says_it_is_folded_or_a_lost_link_and_the_next_is_read(
    messages: list[str | bytes],
) -> None:
    async def script(socket: ServerConnection, time: int) -> None:
        if time <= len(messages):
            await socket.send(messages[time - 1])
        else:
            await socket.send(snapshot("at last", 1))
            await socket.wait_closed()

    state = State()
    no_wait = 4.0  # before the next attempt
    async with feed(script, []) as api, LiveSource(api, "token", jitter=lambda: no_wait) as source:
        async for item in source:
            if isinstance(item, LiveMessage):
                state = state.apply(item)
                assert math.isfinite(item.at)
                if item.epoch == "at last":
                    break
            elif item.state is LinkState.DOWN:
                assert item.error
                assert len(item.error.splitlines()) == 1, "it is shown on one line"
    assert state.epoch == "at last"


async def test_a_refused_token_ends_it() -> None:
    def refuse(connection: ServerConnection, request: Request) -> Response:
        return connection.respond(HTTPStatus.UNAUTHORIZED, "no")

    async def never(socket: ServerConnection) -> None:
        raise AssertionError("let in")

    async with serve(never, "127.0.0.1", 0, process_request=refuse) as server:
        api = f"http://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"
        async with LiveSource(api, "token") as source:
            with pytest.raises(Rejected, match="token"):
                await read(source, 1)


def test_it_never_opens_a_feed_in_clear_to_another_machine() -> None:
    with pytest.raises(InsecureError):
        LiveSource("http://192.0.2.1:8080", "token")


def test_waits_double_and_are_bounded() -> None:
    waits = [retry_wait(attempts, 0.0) for attempts in range(1, 40)]
    assert waits[:3] == [0.25, 0.5, 1.0]
    assert max(waits) == live.LAST_RETRY_S
    assert retry_wait(3, 1.0) < retry_wait(3, 0.0)


# --- several managers of one stage


def entry(number: int) -> JournalEntry:
    return JournalEntry(id=number, at=1.0 * number, actor="a", kind="k", subject="s", message=f"{number}")


def telling(epoch: str, journal: list[int], managers: list[str], api: str = "a") -> str:
    body = Snapshot(
        api=api, watch="w", version="1", started_at=0.0, nodes=[], groups=[], streams=[],
        journal=[entry(number) for number in journal], managers=managers,
    )  # fmt: skip
    return LiveMessage(epoch=epoch, n=1, at=0.0, kind="snapshot", snapshot=body).model_dump_json()


async def test_it_goes_to_a_manager_it_was_told_of_and_asks_for_what_it_has_not_seen() -> None:
    async def second(socket: ServerConnection, time: int) -> None:
        await socket.send(telling("f", [7, 8], []))
        await socket.wait_closed()

    asked: list[dict[str, list[str]]] = []
    there: list[dict[str, list[str]]] = []
    async with feed(second, there) as other:

        async def first(socket: ServerConnection, time: int) -> None:
            if time == 1:
                own = f"http://127.0.0.1:{socket.local_address[1]}"
                managers = [own, other, "http://far.example", "nonsense"]
                await socket.send(telling("e", [5, 6], managers, own))
                delta = LiveMessage(epoch="e", n=2, at=0.0, kind="delta", journal=[entry(7)])
                await socket.send(delta.model_dump_json())
            # once more, and it is gone for good

        async with feed(first, asked) as api, LiveSource(api, "token", jitter=lambda: 1.0) as source:
            seen = await read(source, 3)
            assert source.apis == [api, other], "no token in clear, and none to nonsense"
            assert source.api == other
    assert asked == [{}, {"epoch": ["e"], "since": ["2"], "journal": ["7"]}]
    assert there == [{"epoch": ["e"], "since": ["2"], "journal": ["7"]}]
    ups = [item.api for item in seen if isinstance(item, Link) and item.state is LinkState.UP]
    assert ups == [api, other]
    state = State()
    told: list[int] = []
    for item in seen:
        if isinstance(item, LiveMessage):
            state = state.apply(item)
            told += [entry.id for entry in state.news]
    assert [entry.id for entry in state.journal] == [5, 6, 7, 8]
    assert told == [7, 8]


async def test_each_is_tried_before_anybody_is_waited_for_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []

    async def script(socket: ServerConnection, time: int) -> None:
        await socket.send(snapshot("e", 1))
        await socket.wait_closed()

    async with feed(script, []) as api:
        dead = ["http://127.0.0.1:9", "http://127.0.0.1:1", "http://127.0.0.1:7"]
        async with LiveSource(dead[0], "token", others=[*dead[1:], api], jitter=lambda: 1.0) as source:
            for item in await read(source, 1):
                if isinstance(item, Link) and item.state is LinkState.DOWN:
                    waits.append(item.retry_in_s or 0.0)
    assert len(waits) == 4
    assert set(waits) == {retry_wait(1, 1.0)}
