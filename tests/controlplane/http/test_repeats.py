"""A call that changes something is sent again with its key: done once, and answered as the first time."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import httpx

from controlplane.http.repeating import HEADER, REPLAYED
from controlplane.services.housekeeping import Housekeeping
from tests.controlplane.stage import AS_OPERATOR, Show
from tests.support.wait import wait_for

EVENT = {"title": "The final", "start": "+2h", "end": "+4h", "channel": "main", "expected": 100}
OUTCOME = {"took_s": 1.0}
NO_KEYS = ("", '""', '"', "two words", '"a"b"', "é", f'"{"k" * 129}"', "k" * 129)


async def send(show: Show, key: str, method: str, path: str, body: object = None) -> httpx.Response:
    return await show.http.request(
        method, f"/api/v1{path}", headers=AS_OPERATOR | {HEADER: f'"{key}"'}, json=body
    )


class Twice:
    """Sends each call twice, and sees that nothing was done the second time."""

    def __init__(self, show: Show) -> None:
        self.show = show
        self.calls = 0

    async def __call__(self, method: str, path: str, body: object = None) -> Any:
        self.calls += 1
        key = f"call {self.calls}"
        first = await send(self.show, key, method, path, body)
        assert first.is_success, first.text
        assert REPLAYED not in first.headers
        again = await send(self.show, key, method, path, body)
        assert again.headers[REPLAYED] == "?1"
        assert again.status_code == first.status_code
        if first.status_code == 204:
            assert again.content == b""
            return None
        assert again.json() == first.json()
        return first.json()


async def test_every_call_that_changes_something_is_done_once(show: Show) -> None:
    twice = Twice(show)
    made = await twice("POST", "/tokens", {"channel": "other"})
    await twice("POST", "/tokens/revoke", {"channel": "other", "token": made["token"]})
    event = (await twice("POST", "/events", EVENT))["id"]
    assert (await twice("PATCH", f"/events/{event}", {"expected": 200}))["expected"] == 200
    await twice("POST", f"/events/{event}/cancel", {"reason": "rain"})
    assert (await twice("PATCH", "/groups/edge/policy", {"max": 7}))["policy"]["max"] == 7
    await twice("DELETE", "/groups/edge/policy")
    await twice("POST", "/enrolments", {"role": "edge"})
    await show.on_air()
    assert (await show.whep()).status_code == 201
    await twice("POST", "/nodes/edge-1/drain", {"deadline_s": 60.0, "channels": ["main"]})
    await twice("DELETE", "/nodes/edge-1/drain")
    added = (await twice("POST", "/fleet", {"role": "edge"}))["node"]
    await show.until({added: "in_service"})
    drill = await twice("POST", "/drills", {"kind": "kill-edge", "node": added, "force": True})
    await twice("POST", f"/drills/{drill['id']}/outcome", OUTCOME)
    await twice("DELETE", "/streams/main")

    kinds = await show.journal()
    once = ("event.added", "event.edited", "event.cancelled", "fleet.add", "drill.started", "drill.ended")
    assert {kind: kinds.count(kind) for kind in once} == dict.fromkeys(once, 1)
    assert kinds.count("fleet.policy") == 2
    assert kinds.count("token.created") == 2, "of which one publishes main"
    assert kinds.count("token.revoked") == 2
    document = (await show.http.get("/api/v1/openapi.json")).json()
    taking = [
        (method, path)
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        if any(it["name"] == HEADER for it in operation.get("parameters", ()))
    ]
    assert len(taking) == twice.calls, f"of these one was not called: {taking}"


async def test_all_that_an_operator_changes_can_be_sent_again(show: Show) -> None:
    """Whoever adds a call makes its router one of these, or says here why not."""
    questions = {"evaluate", "whatif", "preflight"}
    others = {"enrol", "report", "subscribe", "publisher"}  # of nodes and publishers
    document = (await show.http.get("/api/v1/openapi.json")).json()
    asked = 0
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if method == "get" or not path.startswith("/api/v1/"):
                continue
            takes = any(it["name"] == HEADER for it in operation.get("parameters", ()))
            assert takes is (path.rpartition("/")[2] not in questions | others), (method, path)
            if takes:
                asked += 1
                assert operation["responses"].keys() >= {"400", "409", "422"}
    assert asked >= 14


async def test_a_key_is_one_calls(show: Show) -> None:
    assert (await send(show, "k", "POST", "/tokens", {"channel": "main"})).status_code == 200
    for method, path, body in (
        ("POST", "/tokens", {"channel": "other"}),
        ("POST", "/tokens?x=1", {"channel": "main"}),
        ("POST", "/enrolments", {"channel": "main"}),
    ):
        refused = await send(show, "k", method, path, body)
        assert (refused.status_code, refused.json()["code"]) == (422, "key_reused"), path
    assert (await show.journal()).count("token.created") == 1


async def test_what_was_refused_may_be_asked_for_again(show: Show) -> None:
    """It has changed nothing, so nothing is kept of it."""
    refused = await send(show, "undo", "DELETE", "/nodes/edge-1/drain")
    assert (refused.status_code, refused.json()["code"]) == (409, "not_draining")
    await show.on_air()
    assert (await show.whep()).status_code == 201
    await send(show, "drain", "POST", "/nodes/edge-1/drain", {"channels": ["main"]})
    done = await send(show, "undo", "DELETE", "/nodes/edge-1/drain")
    assert (done.status_code, done.json()["state"]) == (200, "in_service")


@asynccontextmanager
async def locked(database: Path) -> AsyncIterator[None]:
    """Another program holds it."""
    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


async def test_while_the_first_is_under_way_the_second_is_told_to_wait(show: Show, tmp_path: Path) -> None:
    repeats = show.stage.manager.repeats
    async with locked(tmp_path / "showcaller.db"):
        first = asyncio.ensure_future(send(show, "k", "POST", "/fleet", {"role": "edge"}))
        await wait_for(lambda: repeats._under_way, 5, "the first is under way")
        second = await send(show, "k", "POST", "/fleet", {"role": "edge"})
        assert (second.status_code, second.json()["code"]) == (409, "key_under_way")
        assert second.headers["Retry-After"] == "1"
        other = await send(show, "k", "POST", "/fleet", {"role": "origin"})
        assert (other.status_code, other.json()["code"]) == (422, "key_reused")
        assert not first.done()
    answer = await first
    assert answer.json()["node"] == "edge-2"
    assert (await send(show, "k", "POST", "/fleet", {"role": "edge"})).json() == answer.json()
    assert repeats._under_way == {}


async def test_what_is_no_key_is_refused_and_the_quotes_are_not_the_key(show: Show) -> None:
    for key in NO_KEYS:
        headers = {name.encode(): value.encode() for name, value in (AS_OPERATOR | {HEADER: key}).items()}
        refused = await show.http.post("/api/v1/tokens", headers=headers, json={"channel": "main"})
        assert (refused.status_code, refused.json()["code"]) == (400, "bad_key"), key
    assert "token.created" not in await show.journal()
    first = await send(show, "8e03978e-40d5", "POST", "/tokens", {"channel": "main"})
    bare = AS_OPERATOR | {HEADER: "8e03978e-40d5"}
    again = await show.http.post("/api/v1/tokens", headers=bare, json={"channel": "main"})
    assert (again.json(), again.headers[REPLAYED]) == (first.json(), "?1")


async def test_an_answer_is_the_operators_and_cannot_be_read_in_the_database(
    show: Show, tmp_path: Path
) -> None:
    token = (await send(show, "secret-key", "POST", "/tokens", {"channel": "main"})).json()["token"]
    without = await show.http.post(
        "/api/v1/tokens", headers={HEADER: '"secret-key"'}, json={"channel": "main"}
    )
    assert without.status_code == 401
    with closing(sqlite3.connect(tmp_path / "showcaller.db")) as database:
        ((row),) = database.execute("SELECT * FROM answers")
    for secret in ("secret-key", token, token.rpartition(".")[2], "whip/main"):
        assert secret not in str(row)


async def test_answers_are_forgotten_in_time(show: Show, tmp_path: Path) -> None:
    await send(show, "k", "POST", "/tokens", {"channel": "main"})
    await send(show, "new", "POST", "/tokens", {"channel": "main"})
    with closing(sqlite3.connect(tmp_path / "showcaller.db")) as database:
        database.execute("UPDATE answers SET at = at - 86401 WHERE at = (SELECT MIN(at) FROM answers)")
        database.commit()
    await show.stage.manager.books.change(sweep_of(show))
    with closing(sqlite3.connect(tmp_path / "showcaller.db")) as database:
        assert database.execute("SELECT COUNT(*) FROM answers").fetchone() == (1,)
    assert REPLAYED not in (await send(show, "k", "POST", "/tokens", {"channel": "main"})).headers
    assert REPLAYED in (await send(show, "new", "POST", "/tokens", {"channel": "main"})).headers


def sweep_of(show: Show) -> Any:
    (house,) = [
        bound
        for loop in show.stage._loops
        if isinstance(bound := getattr(loop, "__self__", None), Housekeeping)
    ]
    return house.sweep
