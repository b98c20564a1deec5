"""Who said that they come to an event: their number, as far as anybody keeps it."""

from collections.abc import Collection, Mapping
from typing import Protocol


class Registrations(Protocol):
    missing: str
    """Why there can be none, in words; empty: they are kept."""

    async def count(self, events: Collection[int]) -> Mapping[int, int]:
        """How many there are for each of these events (Event.id); who is not in it has none. May wait for the
        database; raises StoreBusy."""
        ...
