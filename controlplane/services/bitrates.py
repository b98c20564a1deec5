"""What each broadcast brought in, second by second: the last few of them."""

from collections import deque

from controlplane.domain.streams.model import StreamState
from controlplane.services.board import Board

KEPT = 5  # seconds


class Bitrates:
    def __init__(self, board: Board) -> None:
        self._board = board
        self._seen: dict[str, deque[float | None]] = {}

    def second(self) -> None:
        """Once a second: note what origins say of what is on air."""
        on_air = self._board.streams
        self._seen = {channel: seen for channel, seen in self._seen.items() if channel in on_air}
        for channel, stream in on_air.items():
            live = stream.state is StreamState.LIVE
            said = self._board.stream_report(stream) if live else None
            bitrate = None if said is None else said.bitrate_bps
            self._seen.setdefault(channel, deque(maxlen=KEPT)).append(bitrate)

    def of(self, channel: str) -> list[float | None]:
        """In bits per second, oldest first; None where it was not known."""
        return list(self._seen.get(channel, ()))
