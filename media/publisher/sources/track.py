"""The sound of a file: decoded ahead, laid onto the show's timeline, read by position.

A ring of a few seconds, one slot for each sample of the show. What was never written is silence, so that gaps
and missing sound need no case of their own; where one pass of a loop ends, what hangs over is wiped away.
"""

import threading

import av
import numpy as np

from media.publisher.sources.port import SAMPLE_RATE, Sound

_RING = 1 << 19  # samples: 10.9 s
AHEAD = _RING - 2 * SAMPLE_RATE  # how far beyond the reader a writer may go
_JUMP = SAMPLE_RATE // 25  # timestamps that differ by more than 40 ms from what was decoded are believed


class Track:
    """Written by the thread that decodes, read by the one that codes."""

    def __init__(self) -> None:
        self._ring = np.zeros((_RING, 2), np.int16)
        self._read = 0  # every sample before this one has been taken
        self._written = 0  # one past the last sample written
        self._lock = threading.Lock()

    @property
    def ahead(self) -> float:
        """Seconds of sound that lie ready."""
        return (self._written - self._read) / SAMPLE_RATE

    def write(self, first: int, samples: Sound) -> None:
        """Lay samples down from sample number `first` of the show. Too late or too early: left out."""
        with self._lock:
            if first < self._read:
                samples = samples[self._read - first :]
                first = self._read
            samples = samples[: max(0, self._read + AHEAD - first)]
            if not len(samples):
                return
            for start, part in _split(first, samples):
                self._ring[start : start + len(part)] = part
            self._written = max(self._written, first + len(samples))

    def cut(self, end: int) -> None:
        """Silence from sample number `end` on: the pass is over there."""
        with self._lock:
            end = max(end, self._read)
            if self._written > end:
                for start, part in _split(end, np.zeros((self._written - end, 2), np.int16)):
                    self._ring[start : start + len(part)] = part
                self._written = end

    def read(self, first: int, count: int) -> Sound:
        with self._lock:
            out = np.zeros((count, 2), np.int16)
            if first < self._read:  # positions never go back
                return out
            for skipped, part in _split(self._read, np.zeros((min(first - self._read, _RING), 2), np.int16)):
                self._ring[skipped : skipped + len(part)] = part
            done = 0
            for start, part in _split(first, out):
                out[done : done + len(part)] = self._ring[start : start + len(part)]
                self._ring[start : start + len(part)] = 0
                done += len(part)
            self._read = first + count
            return out


def _split(first: int, samples: Sound) -> list[tuple[int, Sound]]:
    """The one or two runs of ring slots that samples from number `first` cover."""
    start = first % _RING
    room = _RING - start
    if len(samples) <= room:
        return [(start, samples)]
    return [(start, samples[:room]), (0, samples[room:])]


class SoundDecoder:
    """Decodes one pass of a file's sound onto the track: 48 kHz stereo, surround mixed down."""

    def __init__(self, track: Track, pass_start: float, file_start: float) -> None:
        self._track = track
        self._shift = pass_start - file_start  # file time to show time
        self._resampler = av.AudioResampler(format="s16", layout="stereo", rate=SAMPLE_RATE)
        self._next: int | None = None  # sample number after the last one laid down

    def add(self, frame: av.AudioFrame) -> None:
        if frame.time is not None:
            at = round((float(frame.time) + self._shift) * SAMPLE_RATE)
            if self._next is None or abs(at - self._next) > _JUMP:
                self._next = at
        self._lay(self._resampler.resample(frame))

    def finish(self) -> None:
        if self._next is not None:
            self._lay(self._resampler.resample(None))

    def _lay(self, frames: list[av.AudioFrame]) -> None:
        for frame in frames:
            samples = frame.to_ndarray().astype(np.int16, copy=False).reshape(-1, 2)
            first = self._next or 0
            self._next = first + len(samples)
            if self._next > 0:
                self._track.write(max(first, 0), samples[max(0, -first) :])
