"""Where the recorded load of the node groups is kept."""

from collections.abc import Sequence
from typing import Protocol

from controlplane.wire.history import HistoryLine


class HistoryUnwritable(Exception):
    """The message says why; `written` of the lines are there, the first ones."""

    def __init__(self, why: str, written: int) -> None:
        super().__init__(why)
        self.written = written


class History(Protocol):
    async def append(self, lines: Sequence[HistoryLine]) -> None:
        """Lines go to what is kept, in this order, whole or not at all; what is older than is to be kept
        goes. May wait for a disk, and holds nothing else up meanwhile. Raises HistoryUnwritable."""
        ...

    def place(self) -> str:
        """The folder in which it lies, for whoever reads it elsewhere."""
        ...
