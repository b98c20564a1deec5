"""When a key frame is asked for upstream: at once, but never more than once per interval (RFC 4585 PLI)."""

KEYFRAME_INTERVAL = 0.5  # seconds between two requests for one track


class KeyframeRequests:
    """Coalesces the wishes of all viewers of a track into few requests.

    A wish within the interval waits for its end, and is dropped when a key frame begins before that.
    """

    __slots__ = ("_last", "_waiting")

    def __init__(self) -> None:
        self._last: float | None = None
        self._waiting = False

    def want(self, now: float) -> bool:
        """A viewer wants a key frame; True when a request is to be sent now."""
        if self._last is not None and now < self._last + KEYFRAME_INTERVAL:  # `deadline` to the last bit
            self._waiting = True
            return False
        self._last = now
        self._waiting = False
        return True

    def arrived(self) -> None:
        """A key frame begins: what was wished for until now is served."""
        self._waiting = False

    def deadline(self) -> float | None:
        """When `due` is to be asked, if a wish is waiting."""
        return self._last + KEYFRAME_INTERVAL if self._waiting and self._last is not None else None

    def due(self, now: float) -> bool:
        """True when a waiting wish's request is to be sent now."""
        return self._waiting and self.want(now)

    def reset(self) -> None:
        """Another source: it has been asked for nothing yet."""
        self._last = None
