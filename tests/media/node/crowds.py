"""A swarm's viewers on a stand of nodes."""

import re
import secrets

from media.core.sdp import Agreed, LocalDescription, accept_answer, make_relay_offer, parse_answer
from media.swarm.crowd import Member
from tests.media.node.stand import Manager


class EdgeDoor:
    """Where a crowd comes in, without a stream manager: media.swarm.crowd.Door."""

    def __init__(self, manager: Manager) -> None:
        self.url = manager.url
        self.sessions: list[str] = []
        self.ports: dict[str, int] = {}  # session -> the UDP port of its worker
        self._manager = manager

    async def enter(self, local: LocalDescription) -> tuple[Agreed, str]:
        session = secrets.token_urlsafe(16)
        self.sessions.append(session)
        answer = await self._manager.session("edge-1", "whep", "main", make_relay_offer(local), session)
        self.ports[session] = udp_port(answer)
        return accept_answer(parse_answer(answer)), session

    async def leave(self, ticket: str) -> None:
        """Its end was the edge's, or is the node's."""

    async def close(self) -> None:
        """Nothing is open."""


def udp_port(answer: str) -> int:
    """Of the worker that gave this answer: each has its own."""
    candidate = re.search(r"^a=candidate:\S+ 1 udp \d+ \S+ (\d+) ", answer, re.MULTILINE)
    assert candidate is not None
    return int(candidate[1])


def seen(member: Member) -> bool:
    """Whether a member of a crowd has had a whole key frame."""
    return member.viewer is not None and member.viewer.first_frame_at is not None
