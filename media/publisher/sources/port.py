"""The port every source stands behind: pictures in order, sound by position, both on one show clock.

Show time is seconds since the first picture of the show; the encoder process decides which moment of the real
clock that was. A source knows nothing of real time, except that a live one may draw the moment of capture.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import av
import numpy as np
import numpy.typing as npt

SAMPLE_RATE = 48_000
Sound = npt.NDArray[np.int16]  # shape (samples, 2): interleaved left and right


@dataclass(frozen=True)
class SourceInfo:
    """What is known of a source once it is open."""

    name: str  # "test" or the file's name
    width: int
    height: int
    fps: float
    sound: bool
    copy: bool = False  # pictures come coded (H.264) and are sent as they are
    duration: float | None = None  # seconds, of one pass; None when endless
    loop: bool = False
    note: str = ""  # one sentence for the broadcaster: what was changed, what may go wrong


@dataclass(frozen=True)
class CodedPicture:
    data: bytes  # one access unit, Annex B
    key: bool


@dataclass(frozen=True)
class Picture:
    """The next picture of a source, not made yet: `make` is only called for pictures that will be sent."""

    at: float  # show time
    ready: float  # monotonic time at which the source had it; 0.0 where it is made on demand
    make: Callable[[float], av.VideoFrame | CodedPicture]  # given the wall clock time of its capture


class SourceRejected(Exception):
    """The source cannot be published. `what` happened, and what to do `next`."""

    def __init__(self, what: str, next_step: str) -> None:
        super().__init__(f"{what}. {next_step}")
        self.what = what
        self.next_step = next_step


class Source(Protocol):
    """One open source. Opening (the adapter's constructor) may wait and raises SourceRejected."""

    info: SourceInfo

    def start(self, position: float, wall_at_zero: float) -> None:
        """Begin at a show time (0 at first; later after an encoder that died). `wall_at_zero` is the Unix
        time of show time 0. May wait until the first picture there is ready."""

    def picture(self, timeout: float) -> Picture | None:
        """The next picture, in order. Waits up to `timeout` seconds; None if it is not there by then.
        Raises EndOfSource after the last one."""

    def sound(self, first: int, count: int) -> Sound:
        """Exactly `count` samples from sample number `first` of the show (48 kHz). What the source does not
        have (yet) is silence. Never waits. Positions never go back."""

    def position(self, at: float) -> float | None:
        """The place in one pass of the source that belongs to a show time; None for an endless one."""

    def close(self) -> None: ...


class EndOfSource(Exception):
    """The source has no more pictures: the show is over."""
