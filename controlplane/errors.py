"""What can go wrong in the stream manager. The class decides the answer.

    ControlError                 has a status, a stable code, a title, a detail that says what to do next
    ├─ Unauthenticated    401    no token, or not a good one
    ├─ Forbidden          403    a good token for something else
    ├─ NotFound           404
    ├─ Conflict           409    the thing is not in a state for this
    │  ├─ NothingOnAir    409    try again: a publisher may come
    │  └─ ChannelOnAir    409
    ├─ BadRequest         4xx    the peer's fault: an offer or a header we cannot take
    ├─ TooMany            429    the peer asks for too much at once; try again
    └─ Unavailable        503    ours: no room, a node that does not answer, a busy database; try again
    StartError                   the manager cannot start; printed as `error: ...`, exit code 1

Any other exception is a bug: it is logged with its trace and answered with 500.
"""

from controlplane.wire.base import FaultView, Problem


class ControlError(Exception):
    status = 500
    code = "error"
    title = "Something went wrong"

    def __init__(
        self,
        detail: str = "",
        *,
        code: str | None = None,
        title: str | None = None,
        status: int | None = None,
        retry_after_s: int | None = None,
        faults: list[FaultView] | None = None,
    ) -> None:
        super().__init__(detail or title or self.title)
        self.faults = faults
        self.detail = detail
        self.code = code or self.code
        self.title = title or self.title
        self.status = status or self.status
        self.retry_after_s = retry_after_s

    def problem(self) -> Problem:
        return Problem(
            code=self.code, title=self.title, detail=self.detail, status=self.status, faults=self.faults
        )


class Unauthenticated(ControlError):
    status = 401
    code = "unauthenticated"
    title = "A good bearer token is needed"


class Forbidden(ControlError):
    status = 403
    code = "forbidden"
    title = "This token is for something else"


class NotFound(ControlError):
    status = 404
    code = "not_found"
    title = "There is no such thing here"


class Conflict(ControlError):
    status = 409
    code = "conflict"
    title = "Not possible in its present state"


class NothingOnAir(Conflict):
    """409 as draft-ietf-wish-whep asks for (section 4.2): the address is right, the time is not."""

    code = "nothing_on_air"
    title = "Nothing is on air on this channel"

    def __init__(self, channel: str) -> None:
        super().__init__(
            f"Nobody publishes {channel} now. Try again when the broadcast has begun.", retry_after_s=1
        )


class ChannelOnAir(Conflict):
    code = "channel_on_air"
    title = "The channel is already on air"

    def __init__(self, channel: str, publisher: str | None) -> None:
        by = f" (by {publisher})" if publisher else ""
        super().__init__(
            f"{channel} is being published{by}. Choose another channel, or stop that broadcast first: "
            f"showcaller streams stop {channel}"
        )


class BadRequest(ControlError):
    status = 400
    code = "bad_request"
    title = "The request cannot be understood"


class TooMany(ControlError):
    status = 429
    code = "too_many_from_here"
    title = "Too many at once from your address"


class Unavailable(ControlError):
    status = 503
    code = "unavailable"
    title = "Not possible just now"


class StartError(Exception):
    """The manager cannot start. The message says what is wrong and what to do."""
