"""The API client: what it refuses to do, and how a failing call is said."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
import uvicorn
from hypothesis import example, given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from console.core.calls import check_api_url, check_token_transport, is_loopback
from console.core.client import Client
from console.core.errors import InsecureError, Rejected, TimedOut, Unreachable, UsageError
from console.core.target import addresses
from controlplane.wire.fleet import Question
from controlplane.wire.nodes import Role
from tests.support.wait import wait_for


@pytest.mark.parametrize("api", ["http://192.0.2.1:8080", "http://stage.example", "http://[2001:db8::1]:1"])
def test_a_token_never_goes_in_clear_to_another_machine(api: str) -> None:
    with pytest.raises(InsecureError, match="https") as refused:
        Client(api, "secret")
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    "api",
    [
        "https://stage.example",
        "http://127.0.0.1:1",
        "http://localhost:1",
        "http://[::1]:1",
        "http://127.9.9.9",
    ],
)
def test_a_token_goes_by_https_or_within_the_machine(api: str) -> None:
    check_token_transport(api)


@pytest.mark.parametrize("host", ["127.0.0.1.example.com", "localhost.example.com", "10.0.0.1", ""])
def test_a_name_that_only_looks_like_loopback_is_not(host: str) -> None:
    assert not is_loopback(host)


@pytest.mark.parametrize("url", ["", "stage.example", "ftp://x", "http://", "http://x:port", "javascript:1"])
def test_what_is_no_address_of_a_manager_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="not the address"):
        check_api_url(url)


@given(
    st.one_of(
        st.text(),
        st.text().map("http://{}".format),
        st.from_regex(r"https?://[a-z@:\[\]%/?#.0-9]{0,20}(:[0-9]{0,7})?(/.*)?", fullmatch=True),
    )
)
@example("http://host/\x1f")
@example("http://host/\ud800")
def test_any_text_is_an_address_that_can_be_asked_or_is_refused(text: str) -> None:
    try:
        api = check_api_url(text)
    except UsageError:
        return
    assert httpx.URL(api).host


async def test_nobody_there_is_unreachable_in_plain_words() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    async with Client(f"http://127.0.0.1:{port}", "t") as client:
        with pytest.raises(Unreachable, match="connection refused") as failed:
            await client.nodes()
    assert failed.value.exit_code == 3


async def test_a_server_that_says_nothing_times_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        async with Client(f"http://127.0.0.1:{server.getsockname()[1]}", "t", timeout=0.2) as client:
            with pytest.raises(TimedOut) as failed:
                await client.nodes()
    assert failed.value.exit_code == 4


class Other:
    """A web server that is no stream manager."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    async def __call__(self, request: Request) -> Response:
        self.seen.append(request.headers.get("authorization", ""))
        match request.url.path:
            case "/api/v1/nodes":
                return PlainTextResponse("<html>hello</html>")
            case "/api/v1/groups":
                return RedirectResponse("http://other.example/api/v1/groups")
            case "/api/v1/journal":
                problem = {"code": "odd", "title": "It is odd", "detail": "Make it even.", "status": 418}
                return JSONResponse(problem, status_code=418, media_type="application/problem+json")
        return PlainTextResponse("no", status_code=404)


@pytest.fixture
async def other() -> AsyncIterator[tuple[str, Other]]:
    import asyncio

    handler = Other()
    app = Starlette(routes=[Route("/{path:path}", handler.__call__, methods=["GET"])])
    with socket.create_server(("127.0.0.1", 0)) as bound:
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
        task = asyncio.create_task(server._serve(sockets=[bound]))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}", handler
        server.should_exit = True
        await task


async def test_a_problem_is_raised_with_the_managers_words(other: tuple[str, Other]) -> None:
    async with Client(other[0], "t") as client:
        with pytest.raises(Rejected, match=r"It is odd\. Make it even\.") as refused:
            await client.journal()
    assert (refused.value.status, refused.value.code, refused.value.exit_code) == (418, "odd", 1)


async def test_an_answer_that_is_none_is_said(other: tuple[str, Other]) -> None:
    async with Client(other[0], "t") as client:
        with pytest.raises(Rejected, match="cannot read"):
            await client.nodes()
        with pytest.raises(Rejected, match="404"):
            await client.streams()


async def test_a_redirect_is_not_followed_with_the_token(other: tuple[str, Other]) -> None:
    async with Client(other[0], "t") as client:
        with pytest.raises(Rejected, match="307"):
            await client.groups()
    assert other[1].seen == ["Bearer t"]


# --- several managers of one stage


class Breaking:
    """Takes a call and breaks the connection before it answers: whether it was done is not known."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = (await reader.readline()).decode().split()
        self.calls.append(" ".join(line[:2]))
        writer.close()


@pytest.fixture
async def breaking() -> AsyncIterator[tuple[str, Breaking]]:
    taken = Breaking()
    async with await asyncio.start_server(taken, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", taken


async def test_where_nobody_listens_nothing_was_sent_and_the_next_one_is_asked(
    other: tuple[str, Other],
) -> None:
    async with Client("http://127.0.0.1:9", "t", others=["http://127.0.0.1:1", other[0]]) as client:
        with pytest.raises(Rejected, match="307"):
            await client.groups()
        assert client.api == other[0], "who answered is asked first from now on"
        with pytest.raises(Rejected, match=r"40[45]"):
            await client.fleet_add(Role.EDGE)
    async with Client("http://127.0.0.1:9", "t", others=["http://127.0.0.1:1"]) as client:
        with pytest.raises(Unreachable, match=r"127\.0\.0\.1:1 "):
            await client.fleet_add(Role.EDGE)


@dataclass
class Rows:
    """What managers on one database have done."""

    answers: dict[str, str] = field(default_factory=dict)  # by key: the token that was made
    done: list[str] = field(default_factory=list)


class Keeping:
    """A manager that keeps keys, as far as a client sees it; every connection is for one call."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self.url = ""
        self.others: list[str] = []  # that it tells of
        self.loses = 0  # so many answers to what changes something, after it was done
        self.says: list[tuple[int, str]] = []  # status and code of its next answers to it, nothing being done
        self.earlier = False  # a version that knows nothing of keys
        self.silent = False
        self.calls: list[str] = []
        self.keys: list[str] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        said = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:])}
        await reader.readexactly(int(said.get("content-length", "0")))
        call = head[0].removesuffix(" HTTP/1.1")
        self.calls.append(call)
        if self.silent:
            await reader.read()
        elif (answer := self.answer(call, said.get("idempotency-key", ""))) is not None:
            status, body = answer
            content = json.dumps(body).encode()
            lines = f"HTTP/1.1 {status} x\r\ncontent-length: {len(content)}\r\nconnection: close\r\n\r\n"
            writer.write(lines.encode() + content)
        writer.close()

    def answer(self, call: str, key: str) -> tuple[int, Any] | None:
        problem = {"title": "no", "status": 400}
        if call == "GET /api/v1/managers":
            if self.earlier:
                return 404, problem | {"code": "not_found"}
            return 200, {"api": self.url, "managers": [self.url, *self.others]}
        if call.startswith("GET"):
            return 200, []
        self.keys.append(key)
        if self.says:
            status, code = self.says.pop(0)
            return status, problem | {"code": code, "status": status}
        token = None if self.earlier else self.rows.answers.get(key)
        if token is None:
            token = self.rows.answers[key] = f"token {len(self.rows.done)}"
            self.rows.done.append(key)
        if self.loses:
            self.loses -= 1
            return None
        return 200, {"whip": self.url, "token": token, "expires": ""}


@pytest.fixture
async def two() -> AsyncIterator[tuple[Keeping, Keeping]]:
    """Two managers on one database."""
    rows = Rows()
    first, second = Keeping(rows), Keeping(rows)
    async with (
        await asyncio.start_server(first, "127.0.0.1", 0) as one,
        await asyncio.start_server(second, "127.0.0.1", 0) as other,
    ):
        first.url, second.url = (f"http://127.0.0.1:{it.sockets[0].getsockname()[1]}" for it in (one, other))
        yield first, second


async def test_what_may_have_been_done_is_sent_again_with_its_key(two: tuple[Keeping, Keeping]) -> None:
    """To the next one, which answers what the first did; and the next call has a key of its own."""
    first, second = two
    first.loses = 1
    async with Client(first.url, "t", others=[second.url]) as client:
        assert (await client.create_token("main")).token == "token 0"
        assert client.api == second.url
        assert (await client.create_token("main")).token == "token 1"
    assert first.keys == second.keys[:1]
    assert first.rows.done == [first.keys[0], second.keys[1]]
    assert len(first.keys[0].strip('"')) >= 20


async def test_a_manager_that_is_alone_is_sent_it_again_itself(two: tuple[Keeping, Keeping]) -> None:
    alone, _ = two
    alone.loses = 2
    async with Client(alone.url, "t") as client:
        assert (await client.create_token("main")).token == "token 0"
    assert len(alone.rows.done) == 1
    assert len(alone.keys) == 3


async def test_a_manager_that_is_started_anew_is_waited_for(two: tuple[Keeping, Keeping]) -> None:
    """Its answer was lost with it, and for a while nobody listens there."""
    alone, _ = two
    alone.loses = 1
    port = int(alone.url.rpartition(":")[2])
    async with await asyncio.start_server(alone, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with Client(f"http://127.0.0.1:{port}", "t") as client:
            making = asyncio.ensure_future(client.create_token("main"))
            await wait_for(lambda: alone.rows.done, 5, "it is done")
            server.close()
            await server.wait_closed()
            await asyncio.wait([making], timeout=0.3)  # for as long as one pause and a try: it waits
            assert not making.done()
            async with await asyncio.start_server(alone, "127.0.0.1", port):
                assert (await making).token == "token 0"
    assert len(alone.rows.done) == 1


async def test_the_other_managers_are_learnt_before_something_is_changed(
    two: tuple[Keeping, Keeping],
) -> None:
    """One address is given; the manager there dies after it has done what it was asked for."""
    first, second = two
    first.loses, first.others = 9, [second.url, "http://192.0.2.1:8080", "nonsense"]
    async with Client(first.url, "t") as client:
        assert (await client.create_token("main")).token == "token 0"
        assert client.apis == [first.url, second.url], "the token is told nobody in clear"
    assert first.calls == ["GET /api/v1/managers", "POST /api/v1/tokens"]


async def test_who_only_asks_learns_them_before_the_second_call(two: tuple[Keeping, Keeping]) -> None:
    first, second = two
    first.others = [second.url]
    async with Client(first.url, "t") as client:
        await client.nodes()
        assert first.calls == ["GET /api/v1/nodes"]
        await client.nodes()
        await client.groups()
        assert first.calls[1:] == ["GET /api/v1/managers", "GET /api/v1/nodes", "GET /api/v1/groups"]
        first.silent = True
        client._timeout = 0.2
        await client.nodes()
        assert client.api == second.url


async def test_of_an_earlier_version_nothing_is_asked_twice(two: tuple[Keeping, Keeping]) -> None:
    """It would do it twice: neither what it may have done is sent elsewhere, nor to it what another has."""
    first, second = two
    first.earlier, first.loses = True, 1
    async with Client(first.url, "t", others=[second.url]) as client:
        with pytest.raises(Unreachable, match=first.url):
            await client.create_token("main")
        assert second.calls == []
        assert len(first.keys) == 1
        client.prefer(second.url)
        second.loses = 1
        assert (await client.create_token("main")).token == "token 1"
    assert len(first.keys) == 1
    assert len(second.keys) == 2


async def test_what_is_under_way_or_not_known_yet_is_asked_for_again(two: tuple[Keeping, Keeping]) -> None:
    first, _ = two
    first.says = [(503, "outcome_unknown"), (409, "key_under_way"), (503, "database_away")]
    async with Client(first.url, "t") as client:
        assert (await client.create_token("main")).token == "token 0"
        first.says = [(503, "database_away")]  # nothing was changed: that is an answer
        with pytest.raises(Rejected) as refused:
            await client.create_token("main")
        assert refused.value.code == "database_away"
        first.says = [(409, "key_under_way")] * 99
        client._timeout = 0.3
        with pytest.raises(Rejected) as refused:
            await client.create_token("main")
        assert refused.value.code == "key_under_way"


async def test_where_it_cannot_be_found_out_that_is_said(two: tuple[Keeping, Keeping]) -> None:
    first, second = two
    first.loses = second.loses = 99
    async with Client(first.url, "t", others=[second.url], timeout=0.5) as client:
        with pytest.raises(Unreachable, match="whether it was done is not known") as failed:
            await client.create_token("main")
    assert failed.value.next_step == "Look before you ask for it again"
    assert len(first.rows.done) == 1


async def test_questions_have_no_key_and_may_go_anywhere(
    other: tuple[str, Other], breaking: tuple[str, Breaking]
) -> None:
    async with Client(breaking[0], "t", others=[other[0]]) as client:
        with pytest.raises(Rejected, match="405"):
            await client.evaluate("edge", Question())
        client.prefer(breaking[0])
        with pytest.raises(Rejected, match="307"):
            await client.groups()
        assert client.api == other[0]
    assert breaking[1].calls == [
        "POST /api/v1/groups/edge/evaluate",
        "GET /api/v1/managers",
        "GET /api/v1/groups",
    ]


async def test_each_of_several_must_be_safe_to_tell_the_token() -> None:
    with pytest.raises(InsecureError):
        Client("https://stage.example", "t", others=["http://other.example"])
    async with Client("https://stage.example", "t") as client:
        with pytest.raises(InsecureError):
            client.prefer("http://other.example")
        assert client.api == "https://stage.example"


def test_several_are_named_with_commas() -> None:
    assert addresses("https://a/, https://b,https://a") == ["https://a", "https://b"]
    for wrong in ("", ",", "https://a,nonsense"):
        with pytest.raises(UsageError):
            addresses(wrong)
