"""The stream manager's way to a node: its control endpoint.

Every method may wait for the network, at most a few seconds. None of them changes anything here.
"""

from typing import Protocol

from controlplane.domain.nodes.model import Node
from controlplane.wire.base import Problem
from controlplane.wire.inside import SessionInside
from controlplane.wire.nodes import SessionAnswer, SessionPatch, SessionRequest, SessionsTold


class NodeUnreachable(Exception):
    """The node did not answer. `refused`: nobody listens there any more, so its process has gone."""

    def __init__(self, node: str, why: str, *, refused: bool) -> None:
        super().__init__(f"{node} does not answer at its control endpoint: {why}")
        self.node = node
        self.refused = refused


class NodeRefused(Exception):
    """The node answered with a problem: the offer's fault (4xx) or its own (5xx)."""

    def __init__(self, node: str, problem: Problem) -> None:
        super().__init__(f"{node}: {problem.title} {problem.detail}")
        self.node = node
        self.problem = problem


class NodeControl(Protocol):
    """All methods raise NodeUnreachable or NodeRefused."""

    async def create_session(self, node: Node, request: SessionRequest) -> SessionAnswer:
        """Make a session from an offer; the answer is the node's SDP."""
        ...

    async def end_sessions(self, node: Node, sessions: list[str], reason: str) -> None:
        """End these, at most wire.nodes.MOST_ENDED; one that is unknown there counts as ended."""
        ...

    async def patch_session(
        self, node: Node, session: str, fragment: str, if_match: str
    ) -> SessionPatch | None:
        """Hand a fragment (application/trickle-ice-sdpfrag) to a session; None unless it restarted ICE."""
        ...

    async def resubscribe(self, node: Node, channel: str) -> None:
        """Tell an edge that its origin of a channel has changed."""
        ...

    async def end_channel(self, node: Node, channel: str, reason: str) -> None:
        """End everything of a channel on a node."""
        ...

    async def inspect(self, node: Node, session: str) -> SessionInside:
        """What is inside a session; NodeRefused with 404 when it is not there."""
        ...

    async def sessions(self, node: Node) -> SessionsTold:
        """The sessions it has, as it told of them last; NodeRefused with 404 by one of an earlier version."""
        ...

    async def metrics(self, node: Node) -> bytes:
        """The node's metrics as Prometheus reads them."""
        ...

    async def terminate(self, node: Node) -> None:
        """Ask the node to end cleanly."""
        ...

    async def refuses(self, node: Node) -> bool:
        """Whether its control connection is refused: nobody listens there any more. Never raises."""
        ...

    async def close(self) -> None: ...
