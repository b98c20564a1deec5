"""The two bases of every message: what we send (strict) and what we read (lenient about new fields)."""

from pydantic import BaseModel, ConfigDict


class Message(BaseModel):
    """A message of ours. Unknown fields are ignored so that versions can differ by one.

    A number is finite: whoever shows or adds up figures need not ask.
    """

    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)


class Request(BaseModel):
    """A request made by a person or a script: an unknown field is a mistake and is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class FaultView(Message):
    """One thing that is wrong with what was sent."""

    place: str  # as in prestage.schedule.windows.0.end
    text: str


class Problem(Message):
    """RFC 9457 problem details: the body of every error answer (`application/problem+json`).

    `code` is a stable word for programs, `title` what happened, `detail` to what and what to do next.
    """

    type: str = "about:blank"
    code: str
    title: str
    detail: str = ""
    status: int
    faults: list[FaultView] | None = None  # where several can be wrong at once, each by itself
