"""The ASGI application: routes of every domain, errors as answers, limits. Services come from outside."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from controlplane.http import (
    docs,
    drills,
    fleet,
    health,
    journal,
    live,
    managers,
    metrics,
    money,
    nodes,
    planned_events,
    problems,
    quick,
    signaling,
    streams,
    watch_events,
    whep_extensions,
)
from controlplane.http.context import Manager
from controlplane.http.limits import BodyLimit
from controlplane.wire.base import Problem

ABOUT = (
    "The stream manager: what is on air, the nodes that carry it, and the signalling of publishers (WHIP) "
    "and viewers (WHEP). Every error is a Problem as application/problem+json."
)


def build(manager: Manager, measures: metrics.Metrics | None = None) -> FastAPI:
    """The application around a manager, but for the web pages.

    `measures`: where requests are counted, and what the manager's metrics are read from.
    """
    measures = measures or metrics.Metrics(manager)
    app = FastAPI(
        title="Showcaller stream manager",
        description=ABOUT,
        version=manager.views.version,
        openapi_url="/api/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
        # It would look at the environment at each request whether anybody traces it. metrics.py measures.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    app.state.manager = manager
    app.state.metrics = measures
    problems.install(app)
    app.add_middleware(BodyLimit)
    app.add_middleware(metrics.Measured, metrics=measures)  # outermost: it was added last
    for routes in (
        health.routes,
        live.routes,
        managers.routes,
        nodes.operator_routes,
        nodes.session_routes,
        fleet.routes,
        fleet.questions,
        drills.routes,
        planned_events.routes,
        planned_events.questions,
        money.routes,
        streams.routes,
        streams.publisher_routes,
        journal.routes,
        nodes.node_routes,
    ):
        app.include_router(routes, prefix="/api/v1")
    app.include_router(metrics.routes)
    app.include_router(signaling.routes)
    app.include_router(whep_extensions.routes)
    app.include_router(watch_events.routes)
    app.include_router(docs.routes)
    quick.install(app)
    app.openapi = lambda: _document(app)  # type: ignore[method-assign]
    return app


def _document(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document with our one error shape in place of FastAPI's own."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes
        )
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        schemas["Problem"] = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
        for name in ("HTTPValidationError", "ValidationError"):
            schemas.pop(name, None)
        app.openapi_schema = document
    return app.openapi_schema
