"""Who is asking: bearer tokens, from the Authorization header only (never from a URL)."""

from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.security import HTTPBearer
from starlette.requests import HTTPConnection

from controlplane.domain.nodes.model import Node
from controlplane.errors import Unauthenticated
from controlplane.http.context import Here, manager_of

OPERATOR = "operator"

_operator_scheme = HTTPBearer(
    auto_error=False,
    scheme_name="operator",
    description="The operator's token: showcaller finds it by itself.",
)
_node_scheme = HTTPBearer(auto_error=False, scheme_name="node", description="A node's credential.")
_metrics_scheme = HTTPBearer(
    auto_error=False,
    scheme_name="metrics",
    description="The token for scrapers, in the data folder's metrics.token; the operator's is good too.",
)
_publish_scheme = HTTPBearer(
    auto_error=False, scheme_name="publish", description="A publish token: showcaller token create."
)


def bearer(connection: HTTPConnection) -> str:
    """The bearer token of a request. Raises Unauthenticated."""
    scheme, _, token = connection.headers.get("authorization", "").partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        raise Unauthenticated("Send one in the header `Authorization: Bearer TOKEN`.")
    return token


def check_operator(connection: HTTPConnection) -> str:
    """The actor's name for the journal. Raises Unauthenticated."""
    if not manager_of(connection).tokens.is_operator(bearer(connection)):
        raise Unauthenticated("This is not the operator's token. Local commands find it by themselves.")
    return OPERATOR


async def _operator(request: Request, _: Annotated[object, Security(_operator_scheme)]) -> str:
    return check_operator(request)


async def _metrics_reader(
    request: Request, here: Here, _: Annotated[object, Security(_metrics_scheme)]
) -> None:
    if not here.tokens.may_read_metrics(bearer(request)):
        raise Unauthenticated("Metrics are read with the token in the data folder's metrics.token.")


async def _node(request: Request, id: str, here: Here, _: Annotated[object, Security(_node_scheme)]) -> Node:
    return await here.enrolment.authenticate(bearer(request), id)


async def _publish_token(request: Request, _: Annotated[object, Security(_publish_scheme)]) -> str:
    return bearer(request)


Operator = Annotated[str, Depends(_operator)]
MetricsReader = Annotated[None, Depends(_metrics_reader)]
SelfNode = Annotated[Node, Depends(_node)]
PublishToken = Annotated[str, Depends(_publish_token)]
