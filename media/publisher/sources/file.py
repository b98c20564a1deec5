"""A video file, once or looped: read ahead by a thread, each picture with its place in the show.

A pass of a loop is exactly as long as its pictures; sound is cut or padded to that, so that picture and
sound keep together through any number of passes. Packets that cannot be decoded are left out and the rest
is played.
"""

import collections
import contextlib
import functools
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import av

from media.publisher.sources.container import Opened, duration_of, open_file, pixel_aspect_of, rate_of
from media.publisher.sources.port import (
    SAMPLE_RATE,
    CodedPicture,
    EndOfSource,
    Picture,
    Sound,
    SourceInfo,
    SourceRejected,
)
from media.publisher.sources.scale import fit, scale
from media.publisher.sources.track import SoundDecoder, Track

AnyPacket: TypeAlias = "av.Packet[Any]"

_PICTURES_AHEAD = 8
_PICTURES_MOST = 48  # when sound lies far behind its pictures in the file
_SOUND_AHEAD_S = 0.3
_MAX_FPS = 60.0
_GIVE_UP = 300  # packets in a row that cannot be decoded
_STARTS_KEPT = 16


@dataclass(frozen=True)
class Unmade:
    """A picture as it comes out of a file: `time` in the file's seconds, None where the file does not say."""

    time: float | None
    key: bool
    build: Callable[[], av.VideoFrame | CodedPicture]


class Reading(Protocol):
    """How the packets of a file become pictures: decoded (here) or as they are (`passthrough.py`)."""

    whole: bool  # no picture may be left out of the middle

    def inspect(self, opened: Opened, path: Path, loop: bool) -> SourceInfo:
        """Look at a freshly opened file (its position is spoilt afterwards). Raises SourceRejected."""

    def begin(self, opened: Opened) -> None:
        """A pass over the file begins."""

    def pictures(self, packet: AnyPacket) -> Iterator[Unmade]:
        """What a packet gives, in showing order. Raises av.FFmpegError for a bad one."""


class Decoding:
    """Decodes the pictures and brings them to the size to send."""

    whole = False

    def __init__(self, size: tuple[int, int] | None, fps: float | None) -> None:
        self._size, self._fps = size, fps
        self._width = self._height = 0

    def inspect(self, opened: Opened, path: Path, loop: bool) -> SourceInfo:
        frame = _first_frame(opened, path)
        self._width, self._height = self._size or fit(frame, pixel_aspect_of(opened.video))
        note = ""
        if (self._width, self._height) != (frame.width, frame.height):
            note = f"{frame.width}x{frame.height} is sent as {self._width}x{self._height}"
        return SourceInfo(
            name=path.name,
            width=self._width,
            height=self._height,
            fps=min(rate_of(opened.video), self._fps or _MAX_FPS, _MAX_FPS),
            sound=opened.sound is not None,
            duration=duration_of(opened),
            loop=loop,
            note=note,
        )

    def begin(self, opened: Opened) -> None:
        opened.video.thread_type = "AUTO"

    def pictures(self, packet: AnyPacket) -> Iterator[Unmade]:
        for frame in packet.decode():
            if isinstance(frame, av.VideoFrame):
                yield Unmade(frame.time, True, functools.partial(scale, frame, self._width, self._height))


def _first_frame(opened: Opened, path: Path) -> av.VideoFrame:
    bad = 0
    with contextlib.suppress(av.FFmpegError):  # of the demuxer: the end, as far as it can be read
        for packet in opened.container.demux(opened.video):
            try:
                for frame in packet.decode():
                    if isinstance(frame, av.VideoFrame):
                        return frame
            except av.FFmpegError:
                bad += 1
            if bad > _GIVE_UP:
                break
    raise SourceRejected(
        f"no picture of {path} can be decoded", "The file may be damaged: try it in a player, or convert it."
    )


class FileSource:
    """Implements the Source port."""

    def __init__(self, path: Path, loop: bool, reading: Reading, begin: float = 0.0) -> None:
        """Opens the file and starts to read, from show time `begin` on."""
        self._path, self._loop, self._reading, self._begin = path, loop, reading, begin
        opened = open_file(path)
        with contextlib.closing(opened.container):
            self.info = reading.inspect(opened, path, loop)
            own_rate = rate_of(opened.video)
        self._interval = 1 / own_rate
        self._every = 1 / self.info.fps if own_rate > self.info.fps * 1.01 and not reading.whole else 0.0
        self._wanted = 0.0  # the show time of the next picture to keep, where some are left out for the rate
        self._last = -1.0  # show time of the last picture queued
        self._track = Track()
        self._starts: collections.deque[float] = collections.deque(maxlen=_STARTS_KEPT)
        self._queue: collections.deque[Picture] = collections.deque()
        self._changed = threading.Condition()
        self._over = self._closed = False
        self._error: SourceRejected | None = None
        self._reader = threading.Thread(target=self._read, name="source", daemon=True)
        self._reader.start()

    # The port.

    def start(self, position: float, wall_at_zero: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._over, timeout=5.0)

    def picture(self, timeout: float) -> Picture | None:
        with self._changed:
            if not self._queue and not self._over:
                self._changed.wait(timeout)
            if self._queue:
                self._changed.notify_all()
                return self._queue.popleft()
            if not self._over:
                return None
        if self._error is not None:
            raise self._error
        raise EndOfSource

    def sound(self, first: int, count: int) -> Sound:
        return self._track.read(first, count)

    def position(self, at: float) -> float | None:
        starts = [start for start in tuple(self._starts) if start <= at]
        return at - starts[-1] if starts else 0.0

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._reader.join(timeout=1.0)

    # The thread that reads.

    def _read(self) -> None:
        try:
            start = self._first_pass()
            while not self._closed:
                end = self._play(start)
                if not self._loop or end <= start:
                    break
                self._track.cut(round(end * SAMPLE_RATE))
                start = end
        except SourceRejected as error:  # the file went away or was changed under a loop
            self._error = error
        finally:
            with self._changed:
                self._over = True
                self._changed.notify_all()

    def _first_pass(self) -> float:
        """The show time at which the pass began that `begin` lies in."""
        if not self._loop or not self.info.duration:
            return 0.0
        return self._begin // self.info.duration * self.info.duration

    def _play(self, start: float) -> float:
        """Read the file through once, as the pass that begins at a show time; the show time of its end."""
        opened = open_file(self._path)
        end = start
        with contextlib.closing(opened.container) as container:
            self._starts.append(start)
            self._reading.begin(opened)
            sound = SoundDecoder(self._track, start, opened.video_start) if opened.sound else None
            if self._begin > start + 1:
                with contextlib.suppress(
                    av.FFmpegError
                ):  # not every file can be searched: then it is read to there
                    place = self._begin - start + opened.video_start
                    container.seek(int(place * av.time_base), backward=True)
            bad = 0
            streams = [opened.video] + ([opened.sound] if opened.sound else [])
            with contextlib.suppress(av.FFmpegError):  # what cannot be demuxed any further is the end
                for packet in container.demux(streams):
                    if self._closed or bad > _GIVE_UP:
                        break
                    try:
                        if packet.stream is opened.video:
                            for unmade in self._reading.pictures(packet):
                                end = self._keep(unmade, start - opened.video_start, end)
                        elif sound is not None:
                            for frame in packet.decode():
                                if isinstance(frame, av.AudioFrame):
                                    sound.add(frame)
                        bad = 0
                    except av.FFmpegError:
                        bad += 1
                    self._wait_for_room(opened.sound is not None)
            if sound is not None:
                sound.finish()
        return end

    def _keep(self, unmade: Unmade, shift: float, end: float) -> float:
        """Queue a picture unless it comes before the beginning or is one too many. Where it ends."""
        at = end if unmade.time is None else unmade.time + shift
        if at <= self._last:  # a file whose clock jumps back
            at = end
        if at < self._begin or (self._reading.whole and self._last < 0 and not unmade.key):
            return at + self._interval
        if self._every:
            if at < self._wanted - 0.001:
                return at + self._interval
            self._wanted = (self._wanted if at - self._wanted < self._every else at) + self._every
        made = unmade.build()
        self._last = at
        with self._changed:
            self._queue.append(Picture(at=at, ready=time.monotonic(), make=lambda _: made))
            self._changed.notify_all()
        return at + self._interval

    def _wait_for_room(self, sound: bool) -> None:
        with self._changed:
            while not self._closed and len(self._queue) >= _PICTURES_AHEAD:
                if sound and self._track.ahead < _SOUND_AHEAD_S and len(self._queue) < _PICTURES_MOST:
                    return
                self._changed.wait(0.1)
