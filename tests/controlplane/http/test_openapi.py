"""The API keeps its own documentation: schemathesis asks it all kinds of things, bounded and seeded."""

import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.controlplane.stage import AS_OPERATOR, Show, on_thread
from tests.support.wait import wait_for

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


@schemathesis.serializer("application/sdp", "application/trickle-ice-sdpfrag")
def as_text(_context: Any, value: Any) -> bytes:
    return str(value).encode("utf-8", "surrogatepass")


@pytest.fixture(scope="module")
def stage_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A manager without nodes, on a thread of its own: schemathesis asks from this one."""
    with on_thread(tmp_path_factory.mktemp("stage")) as url:
        yield url


def test_every_answer_is_as_documented(stage_url: str) -> None:
    """The read and fleet routes: what consoles and scripts call."""
    document = schemathesis.openapi.from_url(f"{stage_url}/api/v1/openapi.json")
    schema = document.include(path_regex="^/api/v1/").exclude(
        path_regex="/(report|subscribe|enrol|publisher)$"
    )
    asked = []
    for result in schema.get_all_operations():
        operation = result.ok()  # type: ignore[union-attr]  # raises on a broken schema: rightly
        asked.append(operation.label)

        @seed(20260101)
        @settings(
            max_examples=15,
            deadline=None,
            database=None,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy())
        def answers_as_documented(case: Any) -> None:
            case.call_and_validate(headers=AS_OPERATOR, checks=CHECKS)

        answers_as_documented()
    assert len(asked) >= 12


def test_whip_and_whep_answer_as_documented(stage_url: str) -> None:
    """Players and publishers of others: every method of every address, with bodies of all kinds."""
    schema = schemathesis.openapi.from_url(f"{stage_url}/api/v1/openapi.json").include(
        path_regex="^/wh[ie]p/"
    )
    token = httpx.post(
        f"{stage_url}/api/v1/tokens", headers=AS_OPERATOR, json={"channel": "main"}, trust_env=False
    ).json()["token"]
    asked = []
    for result in schema.get_all_operations():
        operation = result.ok()  # type: ignore[union-attr]  # raises on a broken schema: rightly
        asked.append(operation.label)

        @seed(20260101)
        @settings(
            max_examples=15,
            deadline=None,
            database=None,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(), mine=st.booleans())
        def answers_as_documented(case: Any, mine: bool) -> None:
            if mine:
                case.path_parameters = {**case.path_parameters, "channel": "main"}
            # A 503 is documented: there are no nodes. Any other fault of the server is not.
            case.call_and_validate(headers={"Authorization": f"Bearer {token}"}, checks=CHECKS[1:])

        answers_as_documented()
    for method in ("GET", "HEAD", "OPTIONS", "POST"):
        assert f"{method} /whep/{{channel}}" in asked
    for method in ("GET", "HEAD", "OPTIONS", "PATCH", "DELETE"):
        assert f"{method} /whip/{{channel}}/{{resource}}" in asked
    assert len(asked) >= 26


async def test_the_documentation_page_needs_nobody_else(show: Show) -> None:
    page = await show.http.get("/docs")
    assert page.status_code == 200
    assert not re.findall(r"(?:src|href)=[\"']?(?:https?:)?//", page.text)
    assert "<script" not in page.text
    for path in (await show.http.get("/api/v1/openapi.json")).json()["paths"]:
        assert path in page.text


async def test_unknown_addresses_and_methods_get_a_problem(show: Show) -> None:
    for method, path, status in (("GET", "/nowhere", 404), ("PUT", "/api/v1/nodes", 405)):
        response = await show.http.request(method, path)
        assert response.status_code == status
        assert response.headers["Content-Type"] == "application/problem+json"
        assert set(response.json()) == {"type", "code", "title", "detail", "status"}


async def test_the_inside_of_a_node_is_shown_also_after_its_end(show: Show) -> None:
    await show.on_air()
    await show.whep()

    async def reported() -> Any:
        inside = await show.get("/nodes/edge-1")
        return inside if inside["sessions"] else None

    inside = await wait_for(reported, 5, "the node reports its viewer")
    assert inside["node"]["id"] == "edge-1"
    assert inside["sessions"][0]["kind"] == "whep"
    assert inside["streams"][0]["channel"] == "main"
    await show.crash("edge-1")
    await show.until_gone("edge-1")
    gone = await show.get("/nodes/edge-1")
    assert (gone["node"]["state"], gone["sessions"]) == ("terminated", [])
    unknown = await show.http.get("/api/v1/nodes/edge-99", headers=AS_OPERATOR)
    assert unknown.status_code == 404


async def test_the_journal_is_read_in_pages(show: Show) -> None:
    every = await show.get("/journal?limit=1000")
    assert [entry["id"] for entry in every] == list(range(1, len(every) + 1))
    assert [e["id"] for e in await show.get("/journal?after=2&limit=2")] == [3, 4]
    assert [e["id"] for e in await show.get("/journal?limit=2")] == [len(every) - 1, len(every)]
    bad = await show.http.get("/api/v1/journal?limit=0", headers=AS_OPERATOR)
    assert bad.status_code == 422


async def test_a_database_that_cannot_be_written_is_a_documented_507(show: Show) -> None:
    await show.on_air()
    document = (await show.http.get("/api/v1/openapi.json")).json()
    store = show.stage.manager.books.store
    store._writer.raw.execute("PRAGMA query_only=ON")  # type: ignore[attr-defined]  # SQLite itself refuses
    for method, path, template, body in (
        ("POST", "/api/v1/tokens", "/api/v1/tokens", {"channel": "main"}),
        ("POST", "/api/v1/fleet", "/api/v1/fleet", {"role": "edge"}),
        ("POST", "/api/v1/enrolments", "/api/v1/enrolments", {"role": "edge"}),
        ("POST", "/api/v1/nodes/edge-1/drain", "/api/v1/nodes/{id}/drain", {}),
        ("DELETE", "/api/v1/streams/main", "/api/v1/streams/{channel}", None),
    ):
        response = await show.http.request(method, path, headers=AS_OPERATOR, json=body)
        assert (response.status_code, response.json()["code"]) == (507, "database_full"), path
        assert "507" in document["paths"][template][method.lower()]["responses"]
    joined = await show.whep()
    assert (joined.status_code, joined.headers["Access-Control-Allow-Origin"]) == (507, "*")
    assert [stream["state"] for stream in await show.get("/streams")] == ["live"]  # the show goes on


async def test_what_is_too_large_is_a_documented_413(show: Show) -> None:
    document = (await show.http.get("/api/v1/openapi.json")).json()
    asked = 0
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if "requestBody" in operation:
                asked += 1
                real = path.format(id="edge-1", channel="main", resource="0")
                response = await show.http.request(method.upper(), real, content=b" " * 1_100_000)
                assert response.status_code == 413
                assert "413" in operation["responses"], (method, path)
    assert asked >= 10
