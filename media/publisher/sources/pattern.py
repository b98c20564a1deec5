"""The test pattern: a picture that tells its own age, and a tone that ticks with the clock.

Drawn at the moment of capture, so that the time code in it is true. Beside the code: colour bars, a clock for
people, a sweep whose stutter one can see, a light that flashes with the beep (lip-sync by eye and ear), and
film grain. The grain is there for the rate control: fresh in each picture and faint, it takes as many bits
as are offered and none that are not, so that any sensible bitrate is really used (a plain synthetic picture
codes into next to nothing).

Sound: a 1 kHz beep of 100 ms at each full second of the wall clock, over a quiet 220 Hz tone.
"""

import datetime

import av
import numpy as np

from media import timecode
from media.publisher.sources.glyphs import Writer
from media.publisher.sources.port import SAMPLE_RATE, Picture, Sound, SourceInfo

BEEP_HZ, TONE_HZ = 1000, 220
BEEP_S = 0.1
SWEEP_S = 2.0  # the time the sweep takes to cross the picture

_BARS = (  # luma, Cb, Cr: 75 % colour bars
    (180, 128, 128),
    (162, 44, 142),
    (131, 156, 44),
    (112, 72, 58),
    (84, 184, 198),
    (65, 100, 212),
    (35, 212, 114),
    (16, 128, 128),
)
_BACK = 40


class TestPattern:
    """Implements the Source port. The picture `make` gives is drawn over by the next one."""

    __test__ = False  # a name pytest would collect

    def __init__(self, width: int, height: int, fps: float) -> None:
        self.info = SourceInfo(name="test", width=width, height=height, fps=fps, sound=True)
        self._frame = av.VideoFrame(width, height, "yuv420p")
        planes = [
            np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)[
                :, : plane.width
            ]
            for plane in self._frame.planes
        ]
        self._luma, blue, red = planes
        self._luma[:] = _BACK
        blue[:] = 128
        red[:] = 128

        unit = timecode.block_side(width)
        top = 5 * unit
        self._bars = slice(top, top + height // 4)
        for index, (y, cb, cr) in enumerate(_BARS):
            left, right = (width * edge // 8 // 2 * 2 for edge in (index, index + 1))
            self._luma[self._bars, left:right] = y
            half = slice(self._bars.start // 2, self._bars.stop // 2), slice(left // 2, right // 2)
            blue[half] = cb
            red[half] = cr

        self._clock = Writer(max(2, width // 160), timecode.WHITE, _BACK)
        caption = Writer(max(1, width // 400), 170, _BACK)
        text = f"SHOWCALLER TEST  {width}X{height}  {fps:.5g} FPS"
        self._clock_at = (width - self._clock.width("00:00:00.000")) // 2, self._bars.stop + unit
        caption_y = self._clock_at[1] + self._clock.cell_height + unit // 2
        caption.write(self._luma, (width - caption.width(text)) // 2, caption_y, text)

        side = 3 * unit
        self._light = (
            slice(self._clock_at[1], self._clock_at[1] + side),
            slice(width - 2 * side, width - side),
        )
        ground = caption_y + caption.cell_height + unit // 2
        self._ground = self._luma[ground:, :]
        self._ramp = np.linspace(60, 190, width).astype(np.int16)
        rng = np.random.default_rng(1)
        depth = self._ground.shape[0]
        grain = rng.normal(0, 7, (depth + 64, width + 64)).clip(-30, 30).astype(np.int16)
        # Laid over the ramp beforehand in a few shifted copies: a picture then costs one copy, not a sum.
        self._grounds = [
            (grain[dy : dy + depth, dx : dx + width] + self._ramp).astype(np.uint8)
            for dy, dx in rng.integers(0, 64, (24, 2))
        ]
        self._sweep_width = unit
        self._next = 0
        self._wall_at_zero = 0.0

        second = np.arange(SAMPLE_RATE) / SAMPLE_RATE
        tone = 0.02 * np.sin(2 * np.pi * TONE_HZ * second)
        beep = 0.3 * np.sin(2 * np.pi * BEEP_HZ * second)
        fade = np.clip(np.minimum(second, BEEP_S - second) / 0.005, 0, 1)  # 5 ms in and out: no clicks
        wave = ((tone + beep * fade) * 32767).astype(np.int16)
        self._second = np.stack((wave, wave), axis=1)

    def start(self, position: float, wall_at_zero: float) -> None:
        self._next = max(0, int(np.ceil(position * self.info.fps)))
        self._wall_at_zero = wall_at_zero

    def picture(self, timeout: float) -> Picture:
        number = self._next
        self._next += 1
        return Picture(at=number / self.info.fps, ready=0.0, make=lambda capture: self._draw(number, capture))

    def _draw(self, number: int, capture: float) -> av.VideoFrame:
        luma = self._luma
        timecode.draw(luma, capture)
        moment = datetime.datetime.fromtimestamp(round(capture * 1000) / 1000, datetime.UTC)
        self._clock.write(luma, *self._clock_at, f"{moment:%H:%M:%S}.{moment.microsecond // 1000:03d}")
        luma[self._light] = timecode.WHITE if capture % 1 < BEEP_S else _BACK
        self._ground[:] = self._grounds[number * 7 % len(self._grounds)]
        x = int(capture % SWEEP_S / SWEEP_S * (self.info.width - self._sweep_width))
        self._ground[:, x : x + self._sweep_width] = timecode.WHITE
        return self._frame

    def sound(self, first: int, count: int) -> Sound:
        # Show time to wall clock, so that the beep begins with the second.
        start = (first + round(self._wall_at_zero * SAMPLE_RATE)) % SAMPLE_RATE
        return self._second.take(range(start, start + count), axis=0, mode="wrap")

    def position(self, at: float) -> float | None:
        return None

    def close(self) -> None:
        pass
