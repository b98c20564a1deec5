"""What is said about an embedded stage, between its supervisor, the commands and the screens."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from console.core.errors import StageError
from console.core.paths import Home, unusable
from controlplane.wire.api import CHANNEL_PATTERN, StageView
from controlplane.wire.base import Message, Request
from controlplane.wire.publishing import PublishLine

Report = Callable[[str], None]  # takes one line for people
DEFAULT_PORT = 8080


def silent(line: str) -> None:
    """The Report of whoever does not want to hear."""


@dataclass(frozen=True)
class StageOptions:
    """How to bring a stage up. The defaults are what `showcaller` without arguments does."""

    home: Home
    port: int | None = None  # None: 8080 or the next free one; 0: any free one; N: that one or an error
    listen: str | None = None  # address to bind HTTP to; None is 127.0.0.1
    announce: tuple[str, ...] = ()  # media addresses; empty: the host's own
    tls_cert: Path | None = None
    tls_key: Path | None = None


class Place(Message):
    """Where a stage is reached: `run/stage.json`, written by the supervisor when its manager listens."""

    version: str  # of the program that runs it
    program: str  # the folder that program is installed in
    home: str
    api: str  # as others reach it
    watch: str
    local_api: str  # as this machine reaches it (loopback where the manager listens there)
    port: int
    listen: str = "127.0.0.1"
    announce: list[str] = []
    tls_cert: str | None = None
    tls_key: str | None = None
    port_fixed: bool = False  # asked for by number: never moved to another


class PublisherSpec(Request):
    """A broadcast to start in a process of its own (`publish --detach`, the Broadcast screen)."""

    channel: str = Field(pattern=CHANNEL_PATTERN)
    source: str  # "test", or the absolute path of a file
    codec: Literal["h264", "vp8"] = "h264"
    bitrate_bps: float | None = Field(default=None, gt=0)  # None: the publisher's own default, 4.5 Mbps
    loop: bool = False
    copy_mode: bool = False  # send an H.264 file without re-encoding
    size: str | None = None  # "1280x720"
    fps: float | None = Field(default=None, gt=0, le=240)


class PublisherStatus(Message):
    """A detached publisher as the supervisor knows it."""

    channel: str
    state: Literal["running", "waiting", "ended", "failed"]  # waiting: before it is started again
    pid: int | None = None
    restarts: int = 0
    exit_code: int | None = None  # of its last end, where known
    error: str = ""  # its own words, when it failed
    line: PublishLine | None = None  # the newest it printed


class ManagerStatus(Message):
    """The stream manager as the supervisor knows it."""

    state: Literal["starting", "ready", "waiting", "failed"]  # waiting: before it is started again
    pid: int | None = None
    restarts: int = 0
    error: str = ""
    log: list[str] = []  # the last lines, when it failed


class StageStatus(Message):
    """Everything `status` can tell; `view` is the contract of `showcaller stage status --json`."""

    view: StageView
    supervised: bool = False  # whether a supervisor keeps it alive right now
    problems: list[str] = []  # what is not as it should be, a sentence each
    manager: ManagerStatus | None = None
    publishers: list[PublisherStatus] = []


def locate(home: Home) -> Place | None:
    """Where the stage of this home is, or was; None when none was ever brought up (or it was ended).

    StageError when the file is damaged, saying how to go on.
    """
    try:
        text = home.stage_file.read_text()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise unusable(home.stage_file, error) from error
    try:
        return Place.model_validate_json(text)
    except ValidationError as error:
        raise StageError(
            f"{home.stage_file} is damaged", "End what runs with `showcaller stage down`, then start again"
        ) from error
