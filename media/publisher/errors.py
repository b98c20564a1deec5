"""What can end a broadcast, and the exit code each has.

PublishError
    UsageError      2  the command line makes no sense
    Refused         1  the source, or the server, does not take it
    NoConnection    3  nobody answers there
    TimedOut        4  somebody may be there, but did not answer in time

Every one says what happened and what to do next.
"""


class PublishError(Exception):
    exit_code = 1
    code = "failed"

    def __init__(self, what: str, next_step: str) -> None:
        super().__init__(f"{what}. {next_step}")
        self.what = what
        self.next_step = next_step


class UsageError(PublishError):
    exit_code = 2
    code = "usage"


class Refused(PublishError):
    """`status` and `code` are the server's, where it was the server that refused."""

    def __init__(self, what: str, next_step: str, status: int = 0, code: str = "") -> None:
        super().__init__(what, next_step)
        self.status = status
        self.code = code or "refused"


class NoConnection(PublishError):
    exit_code = 3
    code = "no_connection"


class TimedOut(PublishError):
    exit_code = 4
    code = "timed_out"
