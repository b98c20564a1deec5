"""A node's control endpoint over HTTP, with the secret agreed at enrolment as bearer."""

from collections.abc import Callable
from typing import Any, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from controlplane.domain.nodes.model import Node
from controlplane.ports.control import NodeRefused, NodeUnreachable
from controlplane.wire.base import Problem
from controlplane.wire.nodes import SessionAnswer, SessionPatch, SessionRequest

TIMEOUT = httpx.Timeout(5.0, connect=1.0)
QUICK = httpx.Timeout(1.0)

Answer = TypeVar("Answer", bound=BaseModel)


class HttpNodeControl:
    """ports.control.NodeControl."""

    def __init__(self, secret_of: Callable[[Node], str]) -> None:
        self._secret_of = secret_of
        self._client = httpx.AsyncClient(
            timeout=TIMEOUT,
            trust_env=False,  # nodes are never behind the proxy of somebody's shell
            limits=httpx.Limits(max_connections=200, max_keepalive_connections=50, keepalive_expiry=30.0),
        )

    async def create_session(self, node: Node, request: SessionRequest) -> SessionAnswer:
        response = await self._call(node, "POST", "/v1/sessions", json=request.model_dump(mode="json"))
        return _read(node, SessionAnswer, response)

    async def end_session(self, node: Node, session: str, reason: str) -> None:
        try:
            await self._call(node, "DELETE", f"/v1/sessions/{session}", params={"reason": reason})
        except NodeRefused as error:
            if error.problem.status != 404:
                raise

    async def patch_session(
        self, node: Node, session: str, fragment: str, if_match: str
    ) -> SessionPatch | None:
        response = await self._call(
            node,
            "PATCH",
            f"/v1/sessions/{session}",
            content=fragment.encode(),
            headers={"Content-Type": "application/trickle-ice-sdpfrag", "If-Match": if_match},
        )
        return None if response.status_code == 204 else _read(node, SessionPatch, response)

    async def resubscribe(self, node: Node, channel: str) -> None:
        await self._call(node, "POST", f"/v1/channels/{channel}/resubscribe")

    async def end_channel(self, node: Node, channel: str, reason: str) -> None:
        try:
            await self._call(node, "POST", f"/v1/channels/{channel}/end", json={"reason": reason})
        except NodeRefused as error:
            if error.problem.status != 404:
                raise

    async def terminate(self, node: Node) -> None:
        await self._call(node, "POST", "/v1/terminate")

    async def refuses(self, node: Node) -> bool:
        try:
            await self._call(node, "GET", "/v1/health", timeout=QUICK)
        except NodeUnreachable as error:
            return error.refused
        except NodeRefused:
            return False
        return False

    async def close(self) -> None:
        await self._client.aclose()

    async def _call(
        self, node: Node, method: str, path: str, *, headers: dict[str, str] | None = None, **more: Any
    ) -> httpx.Response:
        if node.control_url is None:
            raise NodeUnreachable(node.id, "it has not enrolled yet", refused=False)
        headers = {"Authorization": f"Bearer {self._secret_of(node)}"} | (headers or {})
        try:
            response = await self._client.request(method, node.control_url + path, headers=headers, **more)
        except httpx.ConnectError as error:
            raise NodeUnreachable(node.id, str(error) or "connection refused", refused=True) from error
        except (httpx.TransportError, httpx.InvalidURL) as error:
            why = str(error) or type(error).__name__
            raise NodeUnreachable(node.id, why, refused=False) from error
        if response.status_code >= 400:
            raise NodeRefused(node.id, _problem(response))
        return response


def _read(node: Node, kind: type[Answer], response: httpx.Response) -> Answer:
    try:
        return kind.model_validate_json(response.content)
    except ValidationError as error:
        raise NodeUnreachable(node.id, f"its answer makes no sense: {error}", refused=False) from error


def _problem(response: httpx.Response) -> Problem:
    """The node's own words; a status alone where there are none."""
    try:
        return Problem.model_validate_json(response.content)
    except ValidationError:
        return Problem(
            code="node_error",
            title="The node did not take it",
            detail=f"It answered {response.status_code} {response.reason_phrase}.",
            status=response.status_code,
        )
