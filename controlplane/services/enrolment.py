"""A node's first words: a one-use token against a credential of its own.

The token was made with the node's row; only hashes of it and of the credential are kept. A token that is
unknown, used or expired is refused in the same words: a node that gets a 403 here has nothing to do but end.

The answer may be lost, as when a manager is killed after it was written down. So the very node that has
enrolled, known by its control endpoint and its certificate, may ask again until it has reported, and gets
another credential; the one before is good no more. Else all that were launched when a manager died would end,
and so many at once stop the launches of their group.
"""

import hmac
from typing import Any

from controlplane.domain.nodes.model import Node
from controlplane.domain.nodes.states import GONE, LAUNCHING
from controlplane.errors import Forbidden, Unauthenticated
from controlplane.services.books import Books, Change
from controlplane.services.tokens import Tokens, new_secret, sha256
from controlplane.wire.nodes import EnrolAnswer, EnrolRequest, NodeState

REPORT_INTERVAL_S = 0.5  # with the feed's and the screen's share, no figure on screen is older than a second


class Enrolment:
    def __init__(self, books: Books, tokens: Tokens, report_interval_s: float = REPORT_INTERVAL_S) -> None:
        self._books = books
        self._tokens = tokens
        self._interval = report_interval_s

    async def enrol(self, request: EnrolRequest) -> EnrolAnswer:
        credential = new_secret()
        hashed = sha256(request.token)

        async def work(change: Change) -> Node:
            node = await change.tx.node_by_enrolment(hashed)
            if (
                node is None
                or not hmac.compare_digest(node.enrol_hash, hashed)
                or (node.enrolled_at is not None and not _asks_again(node, request))
                or node.state not in LAUNCHING
                or change.now >= node.enrol_expires
            ):
                raise Forbidden(
                    "The enrolment token is unknown, was used already, or has expired. A node is enrolled "
                    "once; a new one needs a new token.",
                    code="enrolment_refused",
                    title="Enrolment refused",
                )
            said: dict[str, Any] = {
                "enrolled_at": change.now,
                "credential_hash": sha256(credential),
                "control_url": request.control_url,
                "control_fingerprint": request.control_fingerprint,
                "version": request.version[:64],
                "pid": request.pid if node.pid is None else node.pid,
                "start_time": request.start_time if node.pid is None else node.start_time,
            }
            if node.state is NodeState.CREATING:  # quicker than the answer of its own launch
                return await change.move_node(node, NodeState.BOOTING, "its process runs", **said)
            return await change.update_node(node, **said)

        node = await self._books.change(work)
        return EnrolAnswer(
            node_id=node.id,
            credential=credential,
            control_secret=self._tokens.control_secret(node),
            report_interval_s=self._interval,
        )

    async def authenticate(self, credential: str, node_id: str) -> Node:
        """The node whose credential this is; Forbidden when it speaks for another."""
        hashed = sha256(credential)
        node = self._books.board.node_with_credential(hashed)
        if node is None:
            node = await self._books.store.read(lambda tx: tx.node_by_credential(hashed))
        if node is None:
            raise Unauthenticated("No node has this credential.", code="unknown_credential")
        if node.id != node_id:
            raise Forbidden(f"This is the credential of {node.id}: it cannot speak for {node_id}.")
        if node.state in GONE and node.id in self._books.board.nodes:
            raise Forbidden(f"This is the credential of an earlier {node.id}.")
        return node


def _asks_again(node: Node, request: EnrolRequest) -> bool:
    """Whether it is the node that has enrolled, and has not said a word since."""
    same = (node.control_url, node.control_fingerprint) == (request.control_url, request.control_fingerprint)
    return same and node.in_service_at is None
