"""When a key frame is asked for upstream: at once, but never more than once per interval (RFC 4585 PLI)."""

KEYFRAME_INTERVAL = 0.5  # seconds between two requests for one track
ANSWER_WITHIN = 0.3  # seconds from a request to the key frame; later ones came by themselves
DEAF_FROM, DEAF_MOST = 1, 4  # requests without an answer, less those with one


class KeyframeRequests:
    """Coalesces the wishes of all viewers of a track into few requests.

    A wish within the interval waits for its end, and is dropped when a key frame begins before that.
    A source that sends a file as it is answers no request: that is learned, so that nobody waits for it. Its
    own key frames look like answers now and then, so after a few requests one answer alone changes no mind.
    Who is taken for deaf is asked all the same: nothing is lost when a request or its answer was.
    """

    __slots__ = ("_asked_at", "_last", "_unanswered", "_waiting")

    def __init__(self) -> None:
        self._last: float | None = None
        self._waiting = False
        self._asked_at: float | None = None  # the oldest request that no key frame followed
        self._unanswered = 0

    def deaf(self, now: float) -> bool:
        """The source seems to make no key frame when asked."""
        overdue = self._asked_at is not None and now >= self._asked_at + ANSWER_WITHIN  # to the last bit
        return self._unanswered + overdue >= DEAF_FROM

    def want(self, now: float) -> bool:
        """A viewer wants a key frame; True when a request is to be sent now."""
        if self._last is not None and now < self._last + KEYFRAME_INTERVAL:  # `deadline` to the last bit
            self._waiting = True
            return False
        if self._asked_at is not None and now - self._asked_at > ANSWER_WITHIN:
            self._learn(answered=False)
            self._asked_at = None
        if self._asked_at is None:
            self._asked_at = now
        self._last = now
        self._waiting = False
        return True

    def arrived(self, now: float) -> None:
        """A key frame begins: what was wished for until now is served."""
        if self._asked_at is not None:
            self._learn(answered=now - self._asked_at <= ANSWER_WITHIN)
            self._asked_at = None
        self._waiting = False

    def _learn(self, *, answered: bool) -> None:
        self._unanswered = max(0, min(DEAF_MOST, self._unanswered + (-1 if answered else 1)))

    def deadline(self) -> float | None:
        """When `due` is to be asked, if a wish is waiting."""
        return self._last + KEYFRAME_INTERVAL if self._waiting and self._last is not None else None

    def due(self, now: float) -> bool:
        """True when a waiting wish's request is to be sent now."""
        return self._waiting and self.want(now)

    def reset(self) -> None:
        """Another source: it has been asked for nothing yet."""
        self._last = self._asked_at = None
        self._unanswered = 0
