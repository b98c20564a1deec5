"""Publish tokens, the operator's token, node credentials: a matrix of wrong ones, all refused."""

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import jwt
import pytest

from controlplane.errors import StartError
from controlplane.services.tokens import load_operator_hash, load_signing_key, sha256
from controlplane.wire.nodes import EnrolRequest, NodeReport
from tests.controlplane.fake_node import OFFER
from tests.controlplane.stage import AS_OPERATOR, SDP, Show

FINGERPRINT = ":".join(["AB"] * 32)


def claims(**changes: Any) -> dict[str, Any]:
    now = int(time.time())
    good = {
        "iss": "showcaller",
        "aud": "whip",
        "sub": "main",
        "typ": "publish",
        "jti": "0123456789abcdef",
        "iat": now,
        "nbf": now,
        "exp": now + 600,
    }
    return {name: value for name, value in (good | changes).items() if value is not None}


NOW = int(time.time())
WRONG: dict[str, dict[str, Any]] = {
    "expired": {"exp": NOW - 1},
    "not valid yet": {"nbf": NOW + 3600},
    "for another audience": {"aud": "whep"},
    "of another issuer": {"iss": "somebody"},
    "of another type": {"typ": "refresh"},
    "without an expiry": {"exp": None},
    "without a subject": {"sub": None},
    "without an id": {"jti": None},
    "without a type": {"typ": None},
    "without a start": {"nbf": None},
    "with a number as channel": {"sub": 5},
    "with words as expiry": {"exp": "tomorrow"},
    "with a list as id": {"jti": ["a"]},
}


@pytest.mark.parametrize("name", WRONG)
async def test_a_wrong_publish_token_is_refused(show: Show, tmp_path: Path, name: str) -> None:
    key = load_signing_key(tmp_path / "signing.key")
    token = _encode(claims(**WRONG[name]), key, "HS256")
    response = await show.whip(token=token)
    assert response.status_code == 401, response.text
    assert response.headers["WWW-Authenticate"].startswith("Bearer")
    assert response.headers["Content-Type"] == "application/problem+json"


def _encode(values: dict[str, Any], key: bytes, algorithm: str) -> str:
    return jwt.PyJWS().encode(json.dumps(values).encode(), key, algorithm=algorithm)


async def test_no_other_algorithm_and_no_other_key_is_accepted(show: Show, tmp_path: Path) -> None:
    key = load_signing_key(tmp_path / "signing.key")
    good = _encode(claims(), key, "HS256")
    header, body, signature = good.split(".")
    wrong = [
        _encode(claims(), key * 2, "HS512"),
        _encode(claims(), b"another key of thirty-two bytes!", "HS256"),
        jwt.encode(claims(), "", algorithm="none"),
        f"{header}.{body}.",
        f"{header}.{body}.{signature[:-4]}AAAA",
        f"{header}.{body}",
        "not.a.token",
        "x",
    ]
    for token in wrong:
        assert (await show.whip(token=token)).status_code == 401
    assert (await show.whip(token=good)).status_code == 201


async def test_a_token_publishes_its_own_channel_only(show: Show) -> None:
    token = await show.token("main")
    headers = SDP | {"Authorization": f"Bearer {token}"}
    response = await show.http.post("/whip/other", headers=headers, content=OFFER)
    assert (response.status_code, response.json()["code"]) == (403, "wrong_channel")
    missing = await show.http.post("/whip/main", headers=SDP, content=OFFER)
    assert missing.status_code == 401
    as_operator = await show.http.post("/whip/main", headers=SDP | AS_OPERATOR, content=OFFER)
    assert as_operator.status_code == 401  # an operator's token is for something else


async def test_a_token_says_when_it_ends(show: Show) -> None:
    body = {"channel": "main", "ttl_s": 60}
    view = (await show.http.post("/api/v1/tokens", headers=AS_OPERATOR, json=body)).json()
    assert set(view) == {"whip", "token", "expires"}
    assert view["whip"] == f"{show.url}/whip/main"
    assert view["expires"].endswith("+00:00")
    for bad in ({"channel": "Main"}, {"channel": "main", "ttl_s": 0}, {"channel": "../x"}, {}):
        response = await show.http.post("/api/v1/tokens", headers=AS_OPERATOR, json=bad)
        assert response.status_code == 422


OPERATORS_ROUTES = [
    ("GET", "/api/v1/snapshot"),
    ("GET", "/api/v1/nodes"),
    ("GET", "/api/v1/nodes/edge-1"),
    ("GET", "/api/v1/groups"),
    ("GET", "/api/v1/streams"),
    ("GET", "/api/v1/journal"),
    ("POST", "/api/v1/fleet"),
    ("POST", "/api/v1/nodes/edge-1/drain"),
    ("DELETE", "/api/v1/nodes/edge-1/drain"),
    ("DELETE", "/api/v1/streams/main"),
    ("POST", "/api/v1/tokens"),
    ("POST", "/api/v1/enrolments"),
]


async def test_operators_routes_are_closed_to_everybody_else(show: Show) -> None:
    edge = show.nodes["edge-1"].enrolled
    assert edge is not None
    strangers = [None, "", "Bearer", "Bearer wrong", "Basic b3A6b3A=", f"Bearer {edge.credential}"]
    strangers += [f"Bearer {await show.token()}", f"Bearer {sha256('the-operator-of-this-test')}"]
    for method, path in OPERATORS_ROUTES:
        for stranger in strangers:
            headers = {} if stranger is None else {"Authorization": stranger}
            response = await show.http.request(method, path, headers=headers, json={"role": "edge"})
            assert response.status_code == 401, (method, path, stranger)
    assert await show.node_states() == {"origin-1": "in_service", "edge-1": "in_service"}


async def test_every_route_is_either_open_by_intent_or_closed(show: Show) -> None:
    """A route nobody thought of must not be open: those that need no token are listed here."""
    open_routes = {
        "/api/v1/health",
        "/api/v1/nodes/enrol",  # the enrolment token is in the body
        "/whep/{channel}",
        "/whep/{channel}/{resource}",
        "/whep/{channel}/{resource}/events",
        "/whep/{channel}/{resource}/events/{stream}",
        "/whep/{channel}/{resource}/latency",
        "/watch/{channel}/events",
    }
    document = (await show.http.get("/api/v1/openapi.json")).json()
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            empty = path == "/whip/{channel}" and method in ("get", "head")  # nothing is shown there
            if path in open_routes or method == "options" or empty:
                assert not operation.get("security"), path
            else:
                assert operation.get("security"), (method, path)


async def test_an_enrolment_token_is_good_once(show: Show) -> None:
    edge = show.nodes["edge-1"]
    request = EnrolRequest(
        token=edge.token,
        control_url="https://127.0.0.1:1",
        control_fingerprint=FINGERPRINT,
        addresses=[],
        workers=[],
        version="1",
        pid=1,
        start_time=1,
    )
    for token in (edge.token, "unknown", ""):
        body = request.model_copy(update={"token": token}).model_dump(mode="json")
        response = await show.http.post("/api/v1/nodes/enrol", json=body)
        assert (response.status_code, response.json()["code"]) == (403, "enrolment_refused")
    assert show.board.nodes["edge-1"].control_url == edge.control_url


async def test_who_has_not_heard_that_it_is_enrolled_may_ask_again_until_it_reports(show: Show) -> None:
    """As when the manager is killed after it has written it down, and before it has answered."""
    made = await show.http.post("/api/v1/enrolments", headers=AS_OPERATOR, json={"role": "edge"})
    said = {
        "token": made.json()["token"],
        "control_url": "https://127.0.0.1:1",
        "control_fingerprint": FINGERPRINT,
        "addresses": [],
        "workers": [],
        "version": "1",
        "pid": 1,
        "start_time": 1,
    }

    async def enrol(**other: Any) -> Any:
        return await show.http.post("/api/v1/nodes/enrol", json=said | other)

    async def report(enrolled: Any) -> int:
        answer = await show.http.post(
            f"/api/v1/nodes/{enrolled['node_id']}/report",
            json={"at": time.time(), "seq": 1, "connections": 0, "egress_bps": 0, "ingress_bps": 0},
            headers={"Authorization": f"Bearer {enrolled['credential']}"},
        )
        return answer.status_code

    first = await enrol()
    assert (await enrol(control_url="https://127.0.0.1:2")).status_code == 403
    assert (await enrol(control_fingerprint=FINGERPRINT.replace("A", "B"))).status_code == 403
    again = await enrol()
    assert (first.status_code, again.status_code) == (200, 200)
    assert again.json()["node_id"] == first.json()["node_id"]
    assert await report(first.json()) == 401
    assert await report(again.json()) == 200
    assert (await enrol()).status_code == 403


async def test_of_enrolments_with_one_token_at_once_exactly_one_is_let_in(show: Show) -> None:
    made = await show.http.post("/api/v1/enrolments", headers=AS_OPERATOR, json={"role": "edge"})
    token = made.json()["token"]

    async def enrol(number: int) -> Any:
        request = EnrolRequest(
            token=token,
            control_url=f"https://127.0.0.1:{number}",
            control_fingerprint=FINGERPRINT,
            addresses=[],
            workers=[],
            version="1",
            pid=number,
            start_time=number,
        )
        return await show.http.post("/api/v1/nodes/enrol", json=request.model_dump(mode="json"))

    answers = await asyncio.gather(*(enrol(number) for number in range(1, 9)))
    assert sorted(answer.status_code for answer in answers) == [200] + [403] * 7
    (let_in,) = (number for number, answer in enumerate(answers, 1) if answer.status_code == 200)
    credential = answers[let_in - 1].json()
    node = show.board.nodes[credential["node_id"]]
    # All that is known of the node is the one's: no other wrote over it.
    assert (node.pid, node.control_url) == (let_in, f"https://127.0.0.1:{let_in}")
    assert node.credential_hash == sha256(credential["credential"])


async def test_a_node_cannot_speak_for_another(show: Show) -> None:
    edge = show.nodes["edge-1"].enrolled
    assert edge is not None
    report = NodeReport(at=1, seq=10**9, connections=399, egress_bps=0, ingress_bps=0)
    for path in ("origin-1/report", "edge-9/report"):
        response = await show.http.post(
            f"/api/v1/nodes/{path}",
            json=report.model_dump(mode="json"),
            headers={"Authorization": f"Bearer {edge.credential}"},
        )
        assert response.status_code == 403
    response = await show.http.post(
        "/api/v1/nodes/edge-1/report",
        json=report.model_dump(mode="json"),
        headers={"Authorization": "Bearer made-up"},
    )
    assert response.status_code == 401
    response = await show.http.post(
        "/api/v1/nodes/origin-1/subscribe",
        json={"channel": "main", "offer": OFFER},
        headers={"Authorization": f"Bearer {edge.credential}"},
    )
    assert response.status_code == 403


async def test_a_node_that_was_given_up_is_told_to_end(show: Show) -> None:
    edge = show.nodes["edge-1"]
    show.provisioner.vanish("edge-1")  # as far as anybody knows; and yet it reports
    await show.until_gone("edge-1")
    assert await _wait_terminated(edge)


async def _wait_terminated(node: Any) -> bool:
    return bool(await asyncio.to_thread(node.terminated.wait, 5))


def test_the_signing_key_is_made_once_and_is_private(tmp_path: Path) -> None:
    path = tmp_path / "signing.key"
    key = load_signing_key(path)
    assert len(key) == 32
    assert path.stat().st_mode & 0o777 == 0o600
    assert load_signing_key(path) == key
    assert [p.name for p in tmp_path.iterdir()] == ["signing.key"]
    path.write_text("too short")
    with pytest.raises(StartError, match="signing key"):
        load_signing_key(path)


def test_the_operators_hash_comes_from_the_environment_or_the_data_folder(tmp_path: Path) -> None:
    path = tmp_path / "operator.sha256"
    assert load_operator_hash(path, None) is None
    path.write_text(sha256("a") + "\n")
    assert load_operator_hash(path, None) == sha256("a")
    assert load_operator_hash(path, sha256("b")) == sha256("b")
    with pytest.raises(StartError, match="SHOWCALLER_OPERATOR_SHA256"):
        load_operator_hash(path, "the token itself")


async def test_what_a_node_says_of_itself_fits_its_columns(show: Show) -> None:
    good = {
        "token": "unknown",
        "control_url": "https://127.0.0.1:1",
        "control_fingerprint": FINGERPRINT,
        "addresses": [],
        "workers": [],
        "version": "v" * 1000,  # clipped: another version may say more of itself
        "pid": 1,
        "start_time": 1.0,
    }
    assert (await show.http.post("/api/v1/nodes/enrol", json=good)).status_code == 403
    wrong = (
        {"control_url": "https://" + "x" * 255},
        {"control_url": "http://127.0.0.1:1"},
        {"control_url": "https://127.0.0.1:1/elsewhere"},
        {"control_url": "https://somebody@127.0.0.1:1"},
        {"control_fingerprint": None},
        {"control_fingerprint": FINGERPRINT[:-3]},
        {"control_fingerprint": FINGERPRINT.lower()},
        {"pid": 2**31},
        {"pid": 2**70},
    )
    for bad in wrong:
        assert (await show.http.post("/api/v1/nodes/enrol", json=good | bad)).status_code == 422
