"""The API client: what it refuses to do, and how a failing call is said."""

import asyncio
import socket
from collections.abc import AsyncIterator

import httpx
import pytest
import uvicorn
from hypothesis import example, given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from console.core.client import Client, check_api_url, check_token_transport, is_loopback
from console.core.errors import InsecureError, Rejected, TimedOut, Unreachable, UsageError
from console.core.target import addresses
from controlplane.wire.fleet import Policy, Question
from controlplane.wire.nodes import Role


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


async def test_what_may_have_been_done_is_not_asked_of_another(
    other: tuple[str, Other], breaking: tuple[str, Breaking]
) -> None:
    async with Client(breaking[0], "t", others=[other[0]]) as client:
        for call in (client.fleet_add(Role.EDGE), client.set_policy("edge", Policy(max=2))):
            with pytest.raises(Unreachable, match=breaking[0]):
                await call
        assert client.api == breaking[0]
        with pytest.raises(Rejected, match="405"):  # a question may be asked again
            await client.evaluate("edge", Question())
        client.prefer(breaking[0])
        with pytest.raises(Rejected, match="307"):
            await client.groups()
        assert client.api == other[0]
    asked = ["POST /api/v1/fleet", "PATCH /api/v1/groups/edge/policy", "POST /api/v1/groups/edge/evaluate"]
    assert breaking[1].calls == [*asked, "GET /api/v1/groups"]


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
