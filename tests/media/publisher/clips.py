"""Small films, made with PyAV when a test needs one."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

RATE = 48_000


def make_clip(
    path: Path,
    *,
    seconds: float = 2.0,
    sound_seconds: float | None = None,
    fps: int = 25,
    size: tuple[int, int] = (640, 360),
    codec: str = "libx264",
    options: dict[str, str] | None = None,
    gop: int = 25,
    b_frames: int = 0,
    mark: float | None = None,
    layout: str = "stereo",
    sound_codec: str = "aac",
    pixels: str = "yuv420p",
) -> Path:
    """A film of moving stripes with a quiet tone. At `mark` seconds one picture is white and a beep sounds.

    `sound_seconds` of 0 is a film without sound."""
    frames = round(seconds * fps)
    with av.open(str(path), "w") as container:
        video: Any = container.add_stream(codec, rate=fps, options=options or {"preset": "ultrafast"})
        video.width, video.height, video.pix_fmt = *size, pixels
        video.codec_context.gop_size, video.codec_context.max_b_frames = gop, b_frames
        sound: Any = None
        if sound_seconds != 0:
            sound = container.add_stream(sound_codec, rate=RATE, layout=layout)
        for number in range(frames):
            luma = np.tile((np.arange(size[0]) + 8 * number) % 200, (size[1], 1)).astype(np.uint8)
            if mark is not None and number == round(mark * fps):
                luma[:] = 235
            planes = np.vstack([luma, np.full((size[1] // 2, size[0]), 128, np.uint8)])
            frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, fps)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if sound is not None:
            _add_sound(container, sound, sound_seconds or seconds, mark, layout)
    return path


def _add_sound(container: Any, stream: Any, seconds: float, mark: float | None, layout: str) -> None:
    moment = np.arange(round(seconds * RATE)) / RATE
    wave = 0.05 * np.sin(2 * np.pi * 300 * moment)
    if mark is not None:
        beep = (moment >= mark) & (moment < mark + 0.1)
        wave[beep] = 0.8 * np.sin(2 * np.pi * 1000 * moment[beep])
    channels = {"mono": 1, "stereo": 2, "5.1": 6}[layout]
    planar = np.tile(wave.astype(np.float32), (channels, 1))
    for start in range(0, len(moment), 1024):
        part = np.ascontiguousarray(planar[:, start : start + 1024])
        frame = av.AudioFrame.from_ndarray(part, format="fltp", layout=layout)
        frame.sample_rate, frame.pts, frame.time_base = RATE, start, Fraction(1, RATE)
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))
