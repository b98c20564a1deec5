"""The short way of a viewer's offer and a node's report: it says and does what the long one does."""

from pathlib import Path

import pytest

from tests.controlplane.fake_node import OFFER
from tests.controlplane.stage import AS_OPERATOR, SDP, Show, running

UP = {"origin-1": "in_service", "edge-1": "in_service"}


def credential(show: Show, node: str) -> dict[str, str]:
    enrolled = show.nodes[node].enrolled
    assert enrolled is not None
    return {"Authorization": f"Bearer {enrolled.credential}"}


async def test_both_ways_answer_alike(tmp_path: Path) -> None:
    """A slash at its end is what the short way does not know."""
    async with running(tmp_path) as show:
        await show.until(UP)
        await show.on_air()
        for query in ("", "?party=friends", "?party=friends&size=8", "?party=friends&page=0123abcd"):
            short = await show.http.post(f"/whep/main{query}", headers=SDP, content=OFFER)
            long = await show.http.post(f"/whep/main/{query}", headers=SDP, content=OFFER)
            assert (short.status_code, short.text) == (long.status_code, long.text) == (201, short.text)
            assert short.headers.keys() == long.headers.keys()
            assert short.headers["Location"].startswith("/whep/main/")
        parties = [session.party for session in show.board.sessions.values() if session.kind == "whep"]
        assert sorted(map(str, parties)) == ["None"] * 2 + ["friends"] * 6
        for content, headers in ((b"", SDP), (b"\xff", SDP), (OFFER.encode(), {}), (b"v=0" * 30_000, SDP)):
            short = await show.http.post("/whep/main", headers=headers, content=content)
            long = await show.http.post("/whep/main/", headers=headers, content=content)
            assert short.status_code == long.status_code >= 400
            assert short.json() == long.json()
            assert short.headers["Access-Control-Allow-Origin"] == "*"


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/whep/nothing", 409),
        ("/whep/MAIN", 422),
        ("/whep/main?party=a%20b", 422),
        ("/whep/main?party=", 422),
        ("/whep/main?party=a&size=33", 422),
        ("/whep/main?party=a&size=0", 422),
        ("/whep/main?party=a&size=08", 201),
        ("/whep/main?page=short", 422),
        ("/whep/main?page=0123abcd&party=a", 201),
        ("/whep/main?edge=edge-1", 401),
        ("/whep/main?party=a&edge=edge-1", 401),
        ("/whep/main?move=none", 403),
        ("/whep/main?of=nobody", 201),
    ],
)
async def test_what_is_said_otherwise_is_read_as_ever(tmp_path: Path, path: str, status: int) -> None:
    async with running(tmp_path) as show:
        await show.until(UP)
        await show.on_air()
        assert (await show.http.post(path, headers=SDP, content=OFFER)).status_code == status


async def test_a_report_that_is_none_is_refused_in_words(tmp_path: Path) -> None:
    async with running(tmp_path) as show:
        await show.until(UP)
        for node in show.nodes.values():
            node.silent = True
        path, headers = "/api/v1/nodes/edge-1/report", credential(show, "edge-1")
        for content, where in (
            ("{}", "at: Field required"),
            ("[]", "the body: "),
            ("{", "the body: "),
            ('{"at": 1, "seq": 1, "connections": "some"}', "connections: "),
        ):
            refused = await show.http.post(path, headers=headers, content=content)
            assert refused.status_code == 422
            assert refused.json()["code"] == "invalid_request"
            assert refused.json()["detail"].startswith(where)
        report = {"at": 1, "seq": 10_000, "connections": 0, "egress_bps": 0, "ingress_bps": 0}
        assert (await show.http.post(path, headers=headers, json=report)).json()["orders"] == []
        another = await show.http.post(path, headers=credential(show, "origin-1"), json=report)
        assert another.status_code == 403
        assert (await show.http.post(path, json=report)).status_code == 401
        assert (await show.http.get(path, headers=headers)).status_code == 405


async def test_both_are_measured_under_their_own_names(tmp_path: Path) -> None:
    async with running(tmp_path) as show:
        await show.until(UP)
        await show.on_air()
        await show.whep()
        text = (await show.http.get("/metrics", headers=AS_OPERATOR)).text
        for route in ("/whep/{channel}", "/api/v1/nodes/{id}/report"):
            assert f'http_requests_total{{method="POST",route="{route}",status="20' in text
