"""The manager's metrics over real HTTP: who may read them, what they say, and nodes' metrics through it."""

import stat
from pathlib import Path

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from controlplane.compose import METRICS_TOKEN
from controlplane.errors import StartError
from controlplane.http.metrics import Measured
from controlplane.services.tokens import load_metrics_token
from tests.controlplane.stage import AS_OPERATOR, Show
from tests.support.exposition import Scrape, check, read
from tests.support.wait import wait_for

M = "showcaller_manager_"
ROUTES = ("/metrics", "/api/v1/nodes/edge-1/metrics", "/api/v1/metrics/targets")


@pytest.fixture
def scraper(show: Show, tmp_path: Path) -> dict[str, str]:
    """The headers of who has read the token for scrapers."""
    (file,) = tmp_path.rglob(METRICS_TOKEN)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    return {"Authorization": f"Bearer {file.read_text().strip()}"}


async def metrics(show: Show, headers: dict[str, str]) -> Scrape:
    response = await show.http.get("/metrics", headers=headers)
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    found = read(response.text)
    check(found, M)
    return found


async def test_what_is_on_the_board_and_what_was_asked_is_told(show: Show, scraper: dict[str, str]) -> None:
    before = await metrics(show, scraper)
    assert before.value(f"{M}nodes", role="edge", state="in_service") == 1
    assert before.value(f"{M}nodes", state="faulty") == 0
    assert before.value(f"{M}streams") == before.value(f"{M}sessions") == 0
    await show.on_air()
    assert (await show.whep()).status_code == 201
    assert (await show.http.get("/api/v1/snapshot")).status_code == 401
    for path in ("/nothing-here", "/nothing-there"):
        assert (await show.http.get(path)).status_code == 404
    after = await metrics(show, scraper)
    assert after.value(f"{M}streams", state="live") == 1
    assert after.value(f"{M}sessions", kind="whep") == 1
    assert after.value(f"{M}sessions", kind="whip") == 1
    requests = f"{M}http_requests_total"
    assert after.value(requests, method="POST", route="/whep/{channel}", status="201") == 1
    assert after.value(requests, route="/api/v1/snapshot", status="401") == 1
    assert after.value(requests, route="none", status="404") == 2
    assert "/nothing-here" not in after.labels(requests, "route"), "who asks for names makes no labels"
    assert after.value(f"{M}http_request_seconds_count", route="/whep/{channel}") == 1
    assert after.value(f"{M}node_connections", node="edge-1", role="edge") >= 0
    assert 0 <= after.value(f"{M}node_report_age_seconds", node="edge-1") < 10
    assert after.value("process_cpu_seconds_total") > 0

    async def looked_at() -> bool:
        return (await metrics(show, scraper)).value(f"{M}loop_delay_seconds_count") >= 2

    await wait_for(looked_at, 5, "the loop's delay is measured")


async def test_what_breaks_counts_as_an_answer_of_500(show: Show, scraper: dict[str, str]) -> None:
    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        raise RuntimeError("a bug of ours")

    async def nothing(*_: object) -> None: ...

    measured = Measured(broken, show.stage.app.state.metrics)
    with pytest.raises(RuntimeError, match="a bug of ours"):
        await measured({"type": "http", "path": "/x", "method": "BREW"}, nothing, nothing)
    found = await metrics(show, scraper)
    assert found.value(f"{M}http_requests_total", method="other", route="none", status="500") == 1


async def test_what_viewers_measured_is_told_and_nothing_where_none_did(
    show: Show, scraper: dict[str, str]
) -> None:
    assert not (await metrics(show, scraper)).families[f"{M}viewer_latency_seconds"].samples
    await show.on_air()
    resource = (await show.whep()).headers["Location"]
    posted = await show.http.post(f"{resource}/latency", json={"latency_ms": 250})
    assert posted.status_code == 200
    found = await metrics(show, scraper)
    assert found.labels(f"{M}viewer_latency_seconds", "quantile") == {"0.5", "0.95", "0.99"}
    assert found.value(f"{M}viewer_latency_seconds", quantile="0.5") == 0.25


async def test_they_are_for_the_operator_and_for_who_has_the_token_for_them(
    show: Show, scraper: dict[str, str]
) -> None:
    publisher = {"Authorization": f"Bearer {await show.token()}"}
    for path in ROUTES:
        assert (await show.http.get(path, headers=scraper)).status_code == 200
        assert (await show.http.get(path, headers=AS_OPERATOR)).status_code == 200
        for headers in ({}, publisher, {"Authorization": "Bearer x"}):
            refused = await show.http.get(path, headers=headers)
            assert refused.status_code == 401
            assert "showcaller_" not in refused.text
    for method, path in (("GET", "/snapshot"), ("GET", "/nodes/edge-1"), ("POST", "/nodes/edge-1/drain")):
        answer = await show.http.request(method, f"/api/v1{path}", headers=scraper)
        assert answer.status_code == 401, "with it nothing else can be done"


async def test_a_nodes_metrics_come_through_the_manager(show: Show, scraper: dict[str, str]) -> None:
    async def of(node: str) -> httpx.Response:
        return await show.http.get(f"/api/v1/nodes/{node}/metrics", headers=scraper)

    there = await of("edge-1")
    assert there.text == 'showcaller_node_info{node="edge-1"} 1\n'
    assert there.headers["content-type"].startswith("text/plain; version=0.0.4")
    unknown = await of("edge-9")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "no_such_node")
    assert "edge-1, origin-1" in unknown.json()["detail"]
    await show.vanish("edge-1")
    away = await of("edge-1")
    assert (away.status_code, away.json()["code"]) == (503, "node_unreachable")
    assert "edge-1 does not answer" in away.json()["detail"]


async def test_a_scraper_finds_manager_and_nodes_by_one_address(show: Show, scraper: dict[str, str]) -> None:
    found = (await show.http.get("/api/v1/metrics/targets", headers=scraper)).json()
    assert {t["labels"]["instance"]: t["labels"]["component"] for t in found} == {
        "manager": "manager",
        "edge-1": "edge",
        "origin-1": "origin",
    }
    for target in found:
        labels = target["labels"]
        assert labels.keys() >= {"__scheme__", "__metrics_path__", "stage"}
        url = f"{labels['__scheme__']}://{target['targets'][0]}{labels['__metrics_path__']}"
        assert url.startswith(show.stage.manager.views.addresses.api)
        answer = await show.http.get(labels["__metrics_path__"], headers=scraper)
        assert answer.status_code == 200


async def test_nodes_are_told_by_what_token_they_may_be_read(show: Show, scraper: dict[str, str]) -> None:
    node = show.nodes["edge-1"]
    token = scraper["Authorization"].removeprefix("Bearer ")
    assert node.enrolled is not None

    def told() -> bool:
        return show.stage.manager.tokens.metrics_sha256 == node.metrics_sha256

    await wait_for(told, 5, "the node knows it")
    assert token not in str(node.metrics_sha256)


def test_the_token_is_made_once_and_a_damaged_one_is_refused(tmp_path: Path) -> None:
    path = tmp_path / METRICS_TOKEN
    made = load_metrics_token(path)
    assert load_metrics_token(path) == made
    assert len(made) >= 43  # 256 bits
    path.unlink()
    assert load_metrics_token(path) != made, "who removes it revokes it"
    for damaged in ("", "short", "x" * 10 + "\x00" * 20):
        path.write_text(damaged)
        with pytest.raises(StartError, match="damaged"):
            load_metrics_token(path)
