"""A film for the tests, made with PyAV: H.264 without B-frames and AAC sound, a few seconds long."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

FPS, RATE = 30, 48_000


def make_clip(path: Path, seconds: float = 6.0, width: int = 640, height: int = 360) -> Path:
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=FPS)
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        video.codec_context.gop_size = FPS
        video.codec_context.max_b_frames = 0
        video.options = {"preset": "ultrafast", "profile": "baseline"}
        audio = container.add_stream("aac", rate=RATE, layout="mono")
        columns = np.arange(width, dtype=np.uint16)
        for number in range(int(seconds * FPS)):
            line = ((columns * 255 // width + number * 5) % 256).astype(np.uint8)
            picture = np.repeat(np.tile(line, (height, 1))[:, :, None], 3, axis=2)
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            container.mux(video.encode(frame))
        moments = np.arange(int(seconds * RATE))
        tone = (np.sin(moments * 2 * np.pi * 440 / RATE) * 8000).astype(np.int16)
        for start in range(0, len(tone) - 1023, 1024):
            sound = av.AudioFrame.from_ndarray(tone[None, start : start + 1024], format="s16", layout="mono")
            sound.sample_rate, sound.pts, sound.time_base = RATE, start, Fraction(1, RATE)
            container.mux(audio.encode(sound))
        container.mux(video.encode(None))
        container.mux(audio.encode(None))
    return path
