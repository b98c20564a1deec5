"""Takes a seat on a node for a new session, in the database, so that no join storm overfills a node.

The order of trying is the domain's (most free room first); taking the seat is a conditional UPDATE that fails
when somebody was quicker, and then the next node is tried.
"""

from collections.abc import Collection

from controlplane.domain.nodes.rules import roomiest_first
from controlplane.errors import Unavailable
from controlplane.services.books import Change
from controlplane.wire.nodes import Role


class NoRoom(Unavailable):
    """No node in service has a seat."""


async def take_seat(
    change: Change, role: Role, *, avoid: Collection[str] = (), prefer: str | None = None
) -> str:
    """Reserve a seat and return its node. Raises NoRoom with what to do next."""
    rooms = [room for room in await change.tx.rooms(role) if room.node not in avoid]
    order = [room.node for room in roomiest_first(rooms)]
    if prefer in order:
        order.remove(prefer)
        order.insert(0, prefer)
    for node in order:
        if await change.tx.reserve(node):
            return node
    if rooms:
        raise NoRoom(
            f"Every {role} in service is full. Try again shortly, or add one: showcaller fleet add {role}",
            code=f"no_{role}_with_room",
            title=f"No {role} has room",
            retry_after_s=2,
        )
    raise NoRoom(
        f"No {role} is in service just now. Try again shortly; showcaller nodes shows what is coming up.",
        code=f"no_{role}_with_room",
        title=f"No {role} has room",
        retry_after_s=1,
    )
