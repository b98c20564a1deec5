"""Pictures of any shape to pictures x264 takes: 8-bit 4:2:0, even sides, square pixels, the right way up."""

import av
import numpy as np
from av.video.reformatter import ColorRange

_LONG_SIDE, _SHORT_SIDE = 1920, 1080  # beyond this one core no longer codes in real time


def fit(frame: av.VideoFrame, pixel_aspect: float = 1.0) -> tuple[int, int]:
    """The size to send a film at whose first picture is this: its own, at most full HD, even."""
    width, height = frame.width * pixel_aspect, float(frame.height)
    if turns(frame) % 2:
        width, height = height, width
    shrink = min(1.0, _LONG_SIDE / max(width, height), _SHORT_SIDE / min(width, height))
    return max(32, int(width * shrink) // 2 * 2), max(32, int(height * shrink) // 2 * 2)


def turns(frame: av.VideoFrame) -> int:
    """Quarter turns, counter-clockwise, that put the picture upright (telephones film on their side)."""
    return round(frame.rotation / 90) % 4


def scale(frame: av.VideoFrame, width: int, height: int) -> av.VideoFrame:
    """The picture as `width` x `height`, yuv420p of the broadcast range, upright."""
    quarter = turns(frame)
    wide, high = (height, width) if quarter % 2 else (width, height)
    plain = frame.format.name == "yuv420p" and (frame.width, frame.height) == (wide, high)
    if not plain:
        frame = frame.reformat(wide, high, "yuv420p", dst_color_range=ColorRange.MPEG)
    if not quarter:
        return frame
    upright = av.VideoFrame(width, height, "yuv420p")
    for source, target in zip(frame.planes, upright.planes, strict=True):
        turned = np.rot90(_pixels(source), quarter)
        _pixels(target)[:] = turned
    return upright


def _pixels(plane: av.video.plane.VideoPlane) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    flat = np.frombuffer(memoryview(plane), np.uint8)
    return flat.reshape(plane.height, plane.line_size)[:, : plane.width]
