"""A look inside a session through the manager: by its beginning, on any node, for the operator alone."""

from typing import Any

import httpx
import pytest

from controlplane.services import asking
from controlplane.wire.nodes import SessionKind, SessionRow
from tests.controlplane.stage import AS_OPERATOR, Show


async def look(show: Show, path: str) -> httpx.Response:
    return await show.http.get(f"/api/v1{path}", headers=AS_OPERATOR)


async def found(show: Show, path: str) -> dict[str, Any]:
    response = await look(show, path)
    assert response.status_code == 200, response.text
    return dict(response.json())


async def refusal(show: Show, path: str) -> tuple[int, str, str, str]:
    response = await look(show, path)
    problem = response.json()
    return response.status_code, problem["code"], problem["title"], problem["detail"]


@pytest.fixture
async def viewer(show: Show) -> str:
    """The id of a session on edge-1; the publisher's is on origin-1."""
    await show.on_air()
    return (await show.whep()).headers["Location"].rpartition("/")[2]


def pretend(show: Show, node: str, *names: str) -> None:
    """The node has told of these sessions too."""
    heard = show.board.heard[node]
    rows = [SessionRow(id=name, kind=SessionKind.WHEP, channel="main", state="connected") for name in names]
    heard.sessions = (*(heard.sessions or ()), *rows)


async def test_a_session_is_found_wherever_it_is_and_by_its_beginning(show: Show, viewer: str) -> None:
    for path in (
        f"/sessions/{viewer}",
        f"/sessions/{viewer[:8]}",
        f"/nodes/edge-1/sessions/{viewer}",
        f"/nodes/edge-1/sessions/{viewer[:8]}",
    ):
        inside = await found(show, path)
        assert (inside["id"], inside["node"], inside["kind"]) == (viewer, "edge-1", "whep")


async def test_what_is_not_there_is_named_beside_what_is(show: Show, viewer: str) -> None:
    status, code, title, detail = await refusal(show, "/sessions/nobody-at-all")
    assert (status, code, title) == (404, "no_such_session", "There is no session nobody-at-all")
    assert viewer[:8] in detail
    status, code, title, detail = await refusal(show, f"/nodes/origin-1/sessions/{viewer}")
    assert (status, code) == (404, "no_such_session")
    assert title == f"There is no session {viewer} on origin-1"
    assert viewer[:8] not in detail, "that one is on another node"
    status, code, title, detail = await refusal(show, f"/nodes/edge-9/sessions/{viewer}")
    assert (status, code, title) == (404, "no_such_node", "There is no node edge-9")
    assert detail == "Nodes: edge-1, origin-1."
    assert (await refusal(show, f"/sessions/{viewer[:3]}"))[1] == "no_such_session", "too short to mean one"


async def test_a_beginning_that_fits_more_than_one_is_refused(show: Show, viewer: str) -> None:
    pretend(show, "edge-1", "twin-1-abcdef", "twin-2-abcdef")
    status, code, title, detail = await refusal(show, "/sessions/twin")
    assert (status, code) == (409, "ambiguous_session")
    assert title == "More than one session begins with twin"
    assert "twin-1-a on edge-1, twin-2-a on edge-1" in detail


def test_a_relays_two_ends_are_told_apart_and_many_names_are_cut_short() -> None:
    assert asking.short("0123456789abcdef") == "01234567"
    assert asking.short("0123456789abcdef.in") == "01234567.in"
    names = [f"edge-{number}" for number in range(1, 31)]
    assert asking.named(names).endswith("edge-19, edge-20 and 10 more")
    assert asking.named(names[:20]).endswith("edge-20")
    assert asking.named([]) == "none"


async def test_either_end_of_a_relay_can_be_meant(show: Show, viewer: str) -> None:
    pretend(show, "origin-1", "relay-0123456789")
    pretend(show, "edge-1", "relay-0123456789.in")
    find = show.stage.manager.asking.find
    for session, node, expected in (
        ("relay-0123456789", None, ("origin-1", "relay-0123456789")),
        ("relay-01", None, ("origin-1", "relay-0123456789")),
        ("relay-01.in", None, ("edge-1", "relay-0123456789.in")),
        ("relay-01", "edge-1", ("edge-1", "relay-0123456789.in")),
    ):
        there, whole = await find(session, node)
        assert (there.id, whole) == expected


async def test_a_node_that_does_not_answer_is_said(show: Show, viewer: str) -> None:
    await show.vanish("edge-1")
    status, code, title, detail = await refusal(show, f"/sessions/{viewer}")
    assert (status, code, title) == (503, "node_unreachable", "The node does not answer")
    assert detail.startswith("edge-1 does not answer at its control endpoint")


async def test_it_is_for_the_operator(show: Show, viewer: str) -> None:
    publisher = {"Authorization": f"Bearer {show.tokens['main']}"}
    for path in (f"/sessions/{viewer}", f"/nodes/edge-1/sessions/{viewer}"):
        for headers in ({}, publisher):
            assert (await show.http.get(f"/api/v1{path}", headers=headers)).status_code == 401
