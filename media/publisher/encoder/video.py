"""Pictures to H.264: x264 for the lowest delay, with a live bitrate and key frames on demand."""

from fractions import Fraction

import av
from av.video.frame import PictureType

from media.publisher.encoder.pace import HEADROOM, KEY_INTERVAL_S, VBV_S, Pace, payload_bps
from media.publisher.packets import MAX_PAYLOAD
from media.publisher.pipe import VIDEO_CLOCK

_TIME_BASE = Fraction(1, VIDEO_CLOCK)
_FILLER_UNIT = b"\x00\x00\x00\x01\x0c"  # start code and header of a filler data NAL unit (H.264 7.3.2.7)


class VideoEncoder:
    """One x264 encoder: constrained baseline, one slice, no delay, parameter sets in each key frame."""

    def __init__(self, width: int, height: int, fps: float, target_bps: float) -> None:
        self._pace = Pace(target_bps, fps)
        context = av.CodecContext.create("libx264", "w")
        context.width, context.height, context.pix_fmt = width, height, "yuv420p"
        context.time_base = _TIME_BASE
        context.framerate = Fraction(fps).limit_denominator(1001)
        context.gop_size = max(1, round(KEY_INTERVAL_S * fps))
        context.max_b_frames = 0
        context.thread_count = 1
        # The VBV goes in by these two options: in x264-params it is ignored, and bit_rate stays as it was.
        ceiling = round(payload_bps(target_bps) * HEADROOM)
        context.bit_rate = ceiling
        context.options = {
            "preset": "superfast",
            "tune": "zerolatency",
            "profile": "baseline",
            "forced-idr": "1",
            "maxrate": str(ceiling),
            "bufsize": str(round(ceiling * VBV_S)),
            "x264-params": "repeat-headers=1:scenecut=0",
        }
        context.open()
        self._context = context

    def set_bitrate(self, target_bps: float) -> None:
        """Takes effect with the next picture, without a key frame; never above what it was opened with."""
        self._pace.retarget(target_bps)

    def encode(self, frame: av.VideoFrame, at: float, key: bool) -> tuple[bytes, bool]:
        """One access unit (Annex B) and whether it is a key frame. `at` is show time in seconds."""
        if self._context.bit_rate != self._pace.encoder_bps:
            self._context.bit_rate = self._pace.encoder_bps
        frame.pts = round(at * VIDEO_CLOCK)
        frame.time_base = _TIME_BASE
        frame.pict_type = PictureType.I if key else PictureType.NONE
        packets = self._context.encode(frame)
        data = b"".join(bytes(packet) for packet in packets)
        filler = self._pace.filler(at, len(data))
        return data + _filler(filler), any(packet.is_keyframe for packet in packets)


def _filler(size: int) -> bytes:
    """About `size` bytes of filler data, in NAL units that fill one RTP packet each."""
    units = []
    while size > 32:
        body = min(size, MAX_PAYLOAD) - 2
        units.append(_FILLER_UNIT + b"\xff" * body + b"\x80")
        size -= body + 2 + 12
    return b"".join(units)
