"""What nodes call: enrol once, report twice a second, subscribe. And what operators ask of them."""

from fastapi import APIRouter

from controlplane.domain.nodes.states import GONE
from controlplane.errors import NotFound
from controlplane.http.auth import Operator, SelfNode
from controlplane.http.context import Here
from controlplane.http.problems import documented
from controlplane.wire.api import NodeDetail, NodeInside
from controlplane.wire.inside import SessionInside
from controlplane.wire.nodes import (
    EnrolAnswer,
    EnrolRequest,
    NodeReport,
    ReportAnswer,
    SessionReport,
    SubscribeAnswer,
    SubscribeRequest,
)

operator_routes = APIRouter(prefix="/nodes", tags=["fleet"])
session_routes = APIRouter(prefix="/sessions", tags=["fleet"])
node_routes = APIRouter(prefix="/nodes", tags=["nodes"])


@operator_routes.get("", responses=documented(401))
async def list_nodes(here: Here, _: Operator) -> list[NodeDetail]:
    """Every node that has not terminated."""
    return here.views.nodes()


@operator_routes.get("/{id}", responses=documented(401, 404, 422, 503))
async def one_node(id: str, here: Here, _: Operator) -> NodeInside:
    """What is inside one node, as it reported it last. A terminated one is remembered for a while. Sessions
    that it told another manager of are asked of the node itself."""
    node = here.board.nodes.get(id)
    if node is None:
        node = await here.books.store.read(lambda tx: tx.node(id))
    if node is None:
        raise NotFound(f"There is no node {id}. showcaller nodes lists them.", code="no_such_node")
    if node.state in GONE:
        return NodeInside(node=here.views.node(node))
    inside = here.views.inside(node)
    told = await here.asking.sessions(node)
    if told is None or told.age_s is None:
        return inside
    at = here.books.clock.now() - told.age_s
    sessions = [SessionReport(**row) for row in told.sessions]
    return inside.model_copy(update={"reported_at": at, "sessions": sessions})


@operator_routes.get("/{id}/sessions/{session}", responses=documented(401, 404, 409, 422, 503))
async def session_of_node(id: str, session: str, here: Here, _: Operator) -> SessionInside:
    """What is inside one session of a node, asked of the node now. The id's beginning does."""
    return await here.asking.inspect(session, id)


@session_routes.get("/{session}", responses=documented(401, 404, 409, 422, 503))
async def session_anywhere(session: str, here: Here, _: Operator) -> SessionInside:
    """The same, on whichever node the session is."""
    return await here.asking.inspect(session)


@node_routes.post("/enrol", responses=documented(403, 413, 422, 503))
async def enrol(request: EnrolRequest, here: Here) -> EnrolAnswer:
    """Exchange the one-use enrolment token for a credential."""
    return await here.enrolment.enrol(request)


@node_routes.post("/{id}/report", responses=documented(401, 403, 413, 422, 503))
async def report(request: NodeReport, node: SelfNode, here: Here) -> ReportAnswer:
    """A node's figures, sessions and streams; the answer carries orders."""
    return await here.reports.report(node, request)


@node_routes.post("/{id}/subscribe", responses=documented(400, 401, 403, 404, 413, 422, 503))
async def subscribe(request: SubscribeRequest, node: SelfNode, here: Here) -> SubscribeAnswer:
    """An edge asks for a channel from the origin that has it."""
    return await here.signaling.subscribe(node, request.channel, request.offer)
