"""The control endpoint and whatever is sent to it: any body is answered, and only what fits is acted on."""

import asyncio
import json
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.wire.nodes import MOST_ENDED, SessionAnswer, SessionPatch, SessionRequest
from media.node.control import MAX_BODY, application

SECRET = "the secret of the enrolment"
REASONS = ("/v1/channels/main/end", "/v1/channels/main/resubscribe", "/v1/terminate")
REQUEST = {"id": "a" * 16, "kind": "whep", "channel": "main", "offer": "v=0", "video_codec": None}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["reason", *REQUEST]) | st.text(), inner, max_size=5)
    ),
    max_leaves=8,
)


class Noted:
    """A node that notes what it is asked."""

    control_secret = SECRET

    def __init__(self) -> None:
        self.asked: list[tuple[str, Any]] = []

    def health(self) -> dict[str, Any]:
        return {}

    async def create_session(self, request: SessionRequest) -> SessionAnswer:
        self.asked.append(("create", request))
        return SessionAnswer(id=request.id, answer="v=0", video_codec=None)

    async def end_sessions(self, sessions: list[str], reason: str) -> None:
        self.asked.append(("end", (sessions, reason)))

    async def patch(self, session_id: str, fragment: str, if_match: str | None) -> SessionPatch | None:
        self.asked.append(("patch", fragment))
        return None

    async def end_channel(self, channel: str, reason: str) -> None:
        self.asked.append(("end_channel", reason))

    async def resubscribe(self, channel: str, reason: str) -> None:
        self.asked.append(("resubscribe", reason))

    def terminate(self, reason: str) -> None:
        self.asked.append(("terminate", reason))

    def may_read_metrics(self, token: str) -> bool:
        return token == "the token for metrics"

    async def metrics(self) -> bytes:
        return b"showcaller_node_info 1"


def send(
    method: str, path: str, body: bytes = b"", authorization: str = f"Bearer {SECRET}"
) -> tuple[httpx.Response, list[tuple[str, Any]]]:
    """The answer, and what was asked of the node."""
    node = Noted()

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(application(node))
        async with httpx.AsyncClient(transport=transport, base_url="https://node") as http:
            headers = {"Authorization": authorization}
            return await http.request(method, path, content=body, headers=headers)

    return asyncio.run(ask()), node.asked


@pytest.mark.parametrize("path", ["/v1/sessions", *REASONS])
@settings(max_examples=40)
@given(body=st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_body_is_answered(path: str, body: bytes) -> None:
    answer, asked = send("POST", path, body)
    if path in REASONS:
        assert answer.is_success
        ((_, reason),) = asked
        assert isinstance(reason, str)
        assert reason
    else:
        assert (answer.status_code, len(asked)) in ((201, 1), (400, 0))


def test_a_body_that_fits_is_acted_on() -> None:
    answer, asked = send("POST", "/v1/sessions", json.dumps(REQUEST).encode())
    assert answer.status_code == 201, answer.text
    ((_, request),) = asked
    assert request.model_dump(mode="json") == REQUEST | {"party": None}
    _, asked = send("POST", "/v1/terminate", b'{"reason": "it is late"}')
    assert asked == [("terminate", "it is late")]


@given(body=st.binary(max_size=200))
def test_any_fragment_goes_to_the_session_as_text(body: bytes) -> None:
    answer, asked = send("PATCH", "/v1/sessions/one", body)
    assert answer.status_code == 204
    assert asked == [("patch", body.decode("utf-8", "replace"))]


@pytest.mark.parametrize("path", ["/v1/sessions", "/v1/sessions/end", *REASONS])
@pytest.mark.parametrize(("body", "refused"), [(b"[" * 60_000, 400), (b" " * (MAX_BODY + 1), 413)])
def test_what_is_too_deep_or_too_long_does_no_harm(path: str, body: bytes, refused: int) -> None:
    answer, asked = send("POST", path, body)
    if path in REASONS and refused == 400:
        assert answer.is_success, "its reason is not said, and it is done all the same"
    else:
        assert (answer.status_code, asked) == (refused, [])


def test_several_sessions_are_ended_at_once() -> None:
    body = json.dumps({"ids": ["one", "two"], "reason": "it is lateé"}).encode()
    answer, asked = send("POST", "/v1/sessions/end", body)
    assert (answer.status_code, answer.content) == (204, b"")
    assert asked == [("end", (["one", "two"], "it is lateé"))]
    assert "content-length" not in answer.headers, "RFC 9110 section 8.6"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b'{"ids": []}',
        b'{"ids": "one"}',
        b'{"ids": [1]}',
        json.dumps({"ids": ["one"] * (MOST_ENDED + 1)}).encode(),
    ],
)
def test_what_names_no_sessions_ends_none(body: bytes) -> None:
    answer, asked = send("POST", "/v1/sessions/end", body)
    assert (answer.status_code, answer.json()["code"], asked) == (400, "bad_request", [])


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/v1",
        "/v1/",
        "/v1/sessions/",
        "/v1/sessions/one/",
        "/v1/sessions/one/two",
        "/v1/channels//end",
        "/v1/*",
    ],
)
def test_a_path_that_leads_nowhere_is_answered_so(path: str) -> None:
    for method in ("GET", "POST", "DELETE"):
        answer, asked = send(method, path)
        assert (answer.status_code, answer.json()["code"], asked) == (404, "not_found", [])


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/v1/sessions", "GET, HEAD, POST"),
        ("GET", "/v1/terminate", "POST"),
        ("POST", "/metrics", "GET, HEAD"),
    ],
)
def test_what_a_path_does_not_do_is_refused(method: str, path: str, allowed: str) -> None:
    answer, asked = send(method, path)
    assert (answer.status_code, answer.json()["code"], asked) == (405, "method_not_allowed", [])
    assert {word.strip() for word in answer.headers["allow"].split(",")} == set(allowed.split(", "))


@pytest.mark.parametrize(
    "given", ["", "Bearer", f"Basic {SECRET}", "Bearer another", "Bearer the token for metrics"]
)
def test_nothing_is_done_without_the_secret(given: str) -> None:
    for method, path in [
        ("POST", "/v1/sessions"),
        ("POST", "/v1/sessions/end"),
        ("GET", "/v1/health"),
        ("POST", "/v1/terminate"),
    ]:
        answer, asked = send(method, path, b"{}", given)
        assert (answer.status_code, answer.json()["code"], asked) == (401, "bad_credential", [])
        assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("given", "status"),
    [("bearer the token for metrics", 200), (f"Bearer {SECRET}", 200), ("Bearer another", 401)],
)
def test_metrics_have_a_token_of_their_own(given: str, status: int) -> None:
    answer, _ = send("GET", "/metrics", b"", given)
    assert answer.status_code == status
