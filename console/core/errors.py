"""Everything the console's core can fail with. Any other exception is a bug.

    ConsoleError            what happened, what to do next, and the exit code of a command that ends so
      UsageError      2     the person asked for something that cannot be meant
      StageError      1     the embedded stage cannot be brought up, reached or ended
      InsecureError   1     the call would have sent a token in clear to another machine
      ApiError              a call to the stream manager did not succeed
        Rejected      1     it answered no; `.problem` says why (status, code, detail)
        Unreachable   3     nobody answers there
        TimedOut      4     it did not answer, or did not get there, in time

`str(error)` is one line for people: "what happened. what to do next."
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # messages bring pydantic along, which `showcaller --help` does without
    from controlplane.wire.base import Problem


class ConsoleError(Exception):
    """`what` happened and the `next_step` to take, each a sentence without its full stop."""

    exit_code = 1
    code = "error"

    def __init__(self, what: str, next_step: str = "", *, details: list[str] | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.next_step = next_step
        self.details = details or []  # more lines, e.g. the last ones of a log

    def __str__(self) -> str:
        parts = [part.rstrip(".") for part in (self.what, self.next_step) if part]
        sentences = [part if part[-1:] in "?!" else f"{part}." for part in parts]
        return " ".join(sentences)


class UsageError(ConsoleError):
    exit_code = 2
    code = "usage"


class StageError(ConsoleError):
    exit_code = 1
    code = "stage"


class InsecureError(ConsoleError):
    exit_code = 1
    code = "insecure"


class ApiError(ConsoleError):
    code = "api"


class Rejected(ApiError):
    exit_code = 1

    def __init__(self, problem: "Problem") -> None:
        what = problem.title
        super().__init__(what, problem.detail)
        self.problem = problem

    @property
    def code(self) -> str:  # type: ignore[override]
        """The manager's stable word for it, e.g. "channel_on_air"."""
        return self.problem.code

    @property
    def status(self) -> int:
        return self.problem.status


class Unreachable(ApiError):
    exit_code = 3
    code = "unreachable"


class TimedOut(ApiError):
    exit_code = 4
    code = "timed_out"
