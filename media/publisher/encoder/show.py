"""The show: takes pictures and sound from the source when they are due, codes them and writes them out.

One thread does it all, because one picture must be coded before the next one anyway. The clock leads: a
picture is due at `zero + picture.at` on the monotonic clock, whatever happened before. What comes more than
two pictures late is not coded any more, so that a slow machine loses pictures and never the clock. Such a
picture counts as `missed` if the source had it too late, as `skipped` if coding was too slow.

The capture time handed on is the moment a picture was due, on the wall clock as it is now: exact for the
RTP timestamps made from the same schedule, and never flattering (lateness of ours counts as latency).
"""

import json
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Protocol

import av

from media.publisher.encoder import pace
from media.publisher.encoder.sound import FRAME_S, FRAME_SAMPLES, SoundEncoder, level_db
from media.publisher.encoder.video import VideoEncoder
from media.publisher.encoder.vp8 import Vp8Encoder
from media.publisher.options import Codec
from media.publisher.pipe import SOUND_CLOCK, VIDEO_CLOCK, Item, Kind
from media.publisher.sources.port import CodedPicture, EndOfSource, Picture, Source

_FIGURES_S = 0.5
_KEY_GAP_S = 0.5  # at most one key frame on demand in this time
_LATE_COPY_S = 1.0  # a coded picture cannot be left out alone: how late it may be before its group is
_SOUND_LATE_S = 0.2
_MAX_WAIT_S = 0.25


@dataclass
class EncoderFigures:
    """What the encoder process tells twice a second. Counts are of this process, since its start."""

    encoded: int = 0
    skipped: int = 0
    missed: int = 0
    position_s: float | None = None
    audio_level_db: float | None = None


@dataclass
class Orders:
    """What the publisher wants; written by the thread that reads orders, read by the show."""

    zero: float | None = None
    key_frame: bool = False
    bitrate: float | None = None
    stop: bool = False
    changed: threading.Condition = field(default_factory=threading.Condition)


class PictureEncoder(Protocol):
    """One of the encoders: pictures in show order, each coded before the next one comes."""

    def set_bitrate(self, target_bps: float) -> None:
        """RTP payload and headers from now on; never above what it was opened with."""

    def encode(self, frame: av.VideoFrame, at: float, key: bool) -> tuple[bytes, bool]:
        """The coded picture of show time `at`, and whether it is a key frame (one is asked for with `key`).
        Empty when the encoder left it out."""


_ENCODERS: dict[Codec, Callable[[int, int, float, float], PictureEncoder]] = {
    "h264": VideoEncoder,
    "vp8": Vp8Encoder,
}


class Show:
    def __init__(
        self, source: Source, codec: Codec, bitrate: float, orders: Orders, write: Callable[[Item], None]
    ) -> None:
        self._source = source
        self._orders = orders
        self._write = write
        self._figures = EncoderFigures()
        info = source.info
        video_bps = pace.video_bps(bitrate, info.sound)
        encoder = _ENCODERS[codec]
        self._video: PictureEncoder | None = (
            None if info.copy else encoder(info.width, info.height, info.fps, video_bps)
        )
        self._sound = SoundEncoder(pace.sound_bps(bitrate)) if info.sound else None
        self._zero = 0.0
        self._sound_block = 0  # number of the next 20 ms of sound
        self._last_key = -_KEY_GAP_S
        self._resync = False  # copy mode: leave everything out up to the next key frame
        self._next_figures = 0.0

    def run(self) -> None:
        """Plays until the source is over (then says so), or until told to stop."""
        if not self._wait_for_go():
            return
        position = max(0.0, time.monotonic() - self._zero)
        self._source.start(position, self._wall(self._zero))
        self._sound_block = max(0, int((time.monotonic() - self._zero) / FRAME_S))
        while not self._orders.stop:
            try:
                picture = self._next_picture()
            except EndOfSource:
                self._tell_figures(time.monotonic(), force=True)
                self._write(Item(Kind.END, b""))
                return
            if picture is not None:
                self._send_picture(picture)

    def _wait_for_go(self) -> bool:
        with self._orders.changed:
            self._orders.changed.wait_for(lambda: self._orders.zero is not None or self._orders.stop)
            self._zero = self._orders.zero or 0.0
            return not self._orders.stop

    @staticmethod
    def _wall(moment: float) -> float:
        """The Unix time of a moment of the monotonic clock, as the wall clock is now."""
        return moment + time.time() - time.monotonic()

    def _next_picture(self) -> Picture | None:
        """The next picture, at the time it is due; sound is sent while waiting. None when told to stop."""
        picture: Picture | None = None
        while not self._orders.stop:
            now = time.monotonic()
            self._send_sound(now)
            self._tell_figures(now)
            wait = _MAX_WAIT_S
            if self._sound is not None:
                wait = min(wait, self._zero + self._sound_block * FRAME_S - now)
            if picture is None:
                picture = self._source.picture(max(0.0, wait))
                continue
            due = self._zero + picture.at
            if due <= now:
                return picture
            time.sleep(max(0.0, min(wait, due - now)))
        return None

    def _send_sound(self, now: float) -> None:
        if self._sound is None:
            return
        late = int((now - self._zero - _SOUND_LATE_S) / FRAME_S)
        self._sound_block = max(self._sound_block, late)
        while (due := self._zero + self._sound_block * FRAME_S) <= now:
            first = self._sound_block * FRAME_SAMPLES
            samples = self._source.sound(first, FRAME_SAMPLES)
            self._figures.audio_level_db = level_db(samples)
            capture = self._wall(due)
            for packet in self._sound.encode(samples, first):
                pts = round(self._sound_block * FRAME_S * SOUND_CLOCK)
                self._write(Item(Kind.SOUND, packet, pts, capture))
            self._sound_block += 1

    def _send_picture(self, picture: Picture) -> None:
        due = self._zero + picture.at
        late = time.monotonic() - due
        interval = 1 / self._source.info.fps
        allowed = _LATE_COPY_S if self._video is None else 2 * interval
        if late > allowed:
            if picture.ready > due + interval:
                self._figures.missed += 1
            else:
                self._figures.skipped += 1
            self._resync = self._video is None
            return
        capture = self._wall(due)
        made = picture.make(capture)
        if isinstance(made, CodedPicture):
            if self._resync and not made.key:
                self._figures.skipped += 1
                return
            self._resync = False
            data, key = made.data, made.key
        else:
            data, key = self._code(made, picture.at)
        if data:
            self._figures.encoded += 1
            self._write(Item(Kind.VIDEO, data, round(picture.at * VIDEO_CLOCK), capture, key))
        else:
            self._figures.skipped += 1

    def _code(self, frame: av.VideoFrame, at: float) -> tuple[bytes, bool]:
        assert self._video is not None  # only a source in copy mode gives coded pictures
        orders = self._orders
        with orders.changed:
            bitrate, orders.bitrate = orders.bitrate, None
            key = orders.key_frame and at - self._last_key >= _KEY_GAP_S
            if key:
                orders.key_frame = False
        if bitrate is not None:
            self._video.set_bitrate(pace.video_bps(bitrate, self._sound is not None))
        data, is_key = self._video.encode(frame, at, key)
        if is_key:
            self._last_key = at
        return data, is_key

    def _tell_figures(self, now: float, force: bool = False) -> None:
        if now < self._next_figures and not force:
            return
        self._next_figures = now + _FIGURES_S
        self._figures.position_s = self._source.position(max(0.0, now - self._zero))
        self._write(Item(Kind.FIGURES, json.dumps(asdict(self._figures)).encode()))
