"""Metrics as Prometheus reads them: of this manager, and of its nodes through it.

    GET /metrics                      this manager
    GET /api/v1/nodes/{id}/metrics    one node, asked at its control endpoint by the pinned certificate
    GET /api/v1/metrics/targets       both, as Prometheus' HTTP service discovery wants them

So a scraper needs one address, one certificate and one token (docs/decisions/0017). Names, units and labels
follow Prometheus' conventions; no label has values that somebody from outside chooses. Figures of the stage
are read off the board when they are asked for; what is measured here is this process alone.
"""

import asyncio
import time
from collections import Counter as Tally
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse, Response
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from controlplane.domain.streams.model import StreamState
from controlplane.domain.streams.rules import percentile
from controlplane.http.auth import MetricsReader
from controlplane.http.context import Here, Manager
from controlplane.http.problems import documented
from controlplane.wire.api import NodeDetail, ScrapeTarget
from controlplane.wire.nodes import NodeState, Role, SessionKind

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
PREFIX = "showcaller_manager_"
API = "/api/v1"
PROBE_EVERY = 0.1  # seconds, of the loop's delay
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_TEXT: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "Metrics"}
}

routes = APIRouter(tags=["metrics"])


class Metrics:
    """What this process measures of itself, and a look at the board, in one registry."""

    def __init__(self, manager: Manager) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each one, that Prometheus has no use for
        self.registry = CollectorRegistry()
        self.requests = Counter(
            f"{PREFIX}http_requests",
            "Requests that were answered; the route is a pattern, or `none` where no route fits.",
            ["method", "route", "status"],
            registry=self.registry,
        )
        self.request_time = Histogram(
            f"{PREFIX}http_request_seconds",
            "From a request's beginning until the first byte of its answer.",
            ["route"],
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5),
            registry=self.registry,
        )
        self._loop_delay = Histogram(
            f"{PREFIX}loop_delay_seconds",
            "How late the event loop comes to a deadline, looked at ten times a second.",
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0),
            registry=self.registry,
        )
        ProcessCollector(registry=self.registry)
        self.registry.register(_Stage(manager))

    async def run(self) -> None:
        """Measure the loop's delay, for ever."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + PROBE_EVERY
            await asyncio.sleep(PROBE_EVERY)
            self._loop_delay.observe(max(0.0, loop.time() - due))

    def text(self) -> bytes:
        return generate_latest(self.registry)


class Measured:
    """Counts requests and times them. Plain ASGI, around everything else."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = time.perf_counter()
        answered = False

        def count(status: int) -> None:
            nonlocal answered
            answered = True
            route = _route(scope)
            method = scope["method"] if scope["method"] in METHODS else "other"
            self._metrics.requests.labels(method, route, str(status)).inc()
            self._metrics.request_time.labels(route).observe(time.perf_counter() - begun)

        async def noticed(message: Message) -> None:
            if message["type"] == "http.response.start":
                count(message["status"])
            await send(message)

        try:
            await self._app(scope, receive, noticed)
        except Exception:
            if not answered:
                count(500)  # which is answered further out
            raise


def _route(scope: Scope) -> str:
    """The pattern of the route that a request came to; an included router does not know its prefix."""
    path: str = getattr(scope.get("route"), "path", "none")
    prefixed = scope["path"].startswith(f"{API}/") and not path.startswith((API, "none"))
    return API + path if prefixed else path


#: of each node that reports: name -> (help, what of its view, by what it is divided)
_OF_NODES: dict[str, tuple[str, str, float]] = {
    "node_connections": (
        "Publishers and viewers that are connected to the node; whoever is being moved is to two of them.",
        "connections",
        1,
    ),
    "node_connections_limit": ("Connections the node takes at most.", "capacity", 1),
    "node_egress_bytes_per_second": ("What the node sends.", "egress_bps", 8),
    "node_ingress_bytes_per_second": ("What the node receives.", "ingress_bps", 8),
    "node_loss_ratio": ("Mean of what its viewers say they lose.", "loss", 1),
    "node_round_trip_seconds": ("Median of its viewers' round trips.", "rtt_ms", 1000),
    "node_loop_delay_seconds": (
        "The worst of its packet loops since the report before.",
        "loop_delay_ms",
        1000,
    ),
    "node_report_age_seconds": ("How long ago it reported.", "age_s", 1),
}


class _Stage:
    """A collector of the board's figures, of one moment. What is not known is left out, never zero."""

    def __init__(self, manager: Manager) -> None:
        self._manager = manager

    def describe(self) -> list[Metric]:
        return []  # nothing is asked while it is registered

    def collect(self) -> Iterator[Metric]:
        here = self._manager
        views, board = here.views, here.board
        yield InfoMetricFamily(
            PREFIX.removesuffix("_"),
            "Which manager this is.",
            {"stage": here.stage, "version": views.version},
        )
        yield GaugeMetricFamily(f"{PREFIX}start_time_seconds", "Unix time of its start.", views.started_at)
        nodes = views.nodes()
        yield _counted(
            "nodes",
            "Nodes by role and state.",
            ("role", "state"),
            Tally((node.role.value, node.state.value) for node in nodes),
            [(role.value, state.value) for role in Role for state in NodeState],
        )
        yield _counted(
            "streams",
            "Channels on air by state.",
            ("state",),
            Tally((stream.state.value,) for stream in board.streams.values()),
            [(state.value,) for state in StreamState if state is not StreamState.ENDED],
        )
        yield _counted(
            "sessions",
            "Sessions that the manager has made and not seen end, by kind.",
            ("kind",),
            Tally((session.kind.value,) for session in board.sessions.values()),
            [(kind.value,) for kind in SessionKind if kind is not SessionKind.RELAY_IN],
        )
        yield from self._of_nodes(nodes)
        yield self._latency()

    def _of_nodes(self, nodes: list[NodeDetail]) -> Iterator[Metric]:
        for name, (about, figure, unit) in _OF_NODES.items():
            gauge = GaugeMetricFamily(PREFIX + name, about, labels=["node", "role"])
            for node in nodes:
                value = getattr(node, figure)
                if value is not None:
                    gauge.add_metric([node.id, node.role.value], value / unit)
            yield gauge

    def _latency(self) -> Metric:
        """Over the viewers' latest posts, of all channels."""
        posts = [post.latency_ms / 1000 for post in self._manager.board.latency.all()]
        gauge = GaugeMetricFamily(
            f"{PREFIX}viewer_latency_seconds",
            "Glass to glass, as the viewers' pages measured it last.",
            labels=["quantile"],
        )
        for share in (0.5, 0.95, 0.99):
            value = percentile(posts, share)
            if value is not None:
                gauge.add_metric([str(share)], value)
        return gauge


def _counted(
    name: str,
    about: str,
    labels: tuple[str, ...],
    counts: Tally[tuple[str, ...]],
    all_of: list[tuple[str, ...]],
) -> Metric:
    """A gauge with a row for each combination there can be, those with none of it too."""
    gauge = GaugeMetricFamily(PREFIX + name, about, labels=labels)
    for values in all_of:
        gauge.add_metric(values, counts[values])
    return gauge


def _metrics_response(text: bytes) -> Response:
    return Response(text, headers={"Content-Type": CONTENT_TYPE})


@routes.get("/metrics", responses=_TEXT | documented(401), response_class=PlainTextResponse)
async def of_the_manager(here: Here, request: Request, _: MetricsReader) -> Response:
    """This manager's metrics, in Prometheus' text format."""
    metrics: Metrics = request.app.state.metrics
    return _metrics_response(metrics.text())


@routes.get(
    "/api/v1/nodes/{id}/metrics",
    responses=_TEXT | documented(401, 404, 422, 503),
    response_class=PlainTextResponse,
)
async def of_a_node(id: str, here: Here, _: MetricsReader) -> Response:
    """A node's metrics, asked at its control endpoint."""
    return _metrics_response(await here.asking.metrics(id))


@routes.get("/api/v1/metrics/targets", responses=documented(401))
async def targets(here: Here, _: MetricsReader) -> list[ScrapeTarget]:
    """This manager and its nodes, for Prometheus' `http_sd_configs`.

    All are reached at one address, so each is told apart by an `instance` of its own.
    """
    address = urlsplit(here.views.addresses.api)
    common = {"__scheme__": address.scheme, "stage": here.stage}
    found = [{"__metrics_path__": "/metrics", "instance": "manager", "component": "manager"}]
    found += [
        {
            "__metrics_path__": f"/api/v1/nodes/{node.id}/metrics",
            "instance": node.id,
            "component": node.role.value,
            "region": node.region,
        }
        for node in here.views.nodes()
        if node.age_s is not None
    ]
    return [ScrapeTarget(targets=[address.netloc], labels=common | labels) for labels in found]
