"""Pictures to VP8: libvpx for the lowest delay, key frames on demand, a bitrate that changes with them."""

from fractions import Fraction

import av
from av.video.frame import PictureType

from media.publisher.encoder.pace import KEY_INTERVAL_S, Pace
from media.publisher.pipe import VIDEO_CLOCK

_TIME_BASE = Fraction(1, VIDEO_CLOCK)
# libvpx does not code a picture twice: a hard cut in film takes 0.27 s of the bitrate at once. With a buffer
# like x264's four pictures after it would be left out.
_BUFFER_S = 0.5
_HEADROOM = 1.01  # libvpx meets its target, on the average
_REOPEN = 0.05  # what the rate must be off by, as a share, to be worth a new encoder


class Vp8Encoder:
    """One libvpx encoder after another: constant bitrate, one thread, no delay, one partition of tokens.

    FFmpeg's libvpx takes a bitrate only when it is opened. So another bitrate means another encoder, and that
    begins with a key frame: it is opened when a key frame is due anyway, a second later at most.
    """

    def __init__(self, width: int, height: int, fps: float, target_bps: float) -> None:
        self._width, self._height, self._fps = width, height, fps
        self._interval = max(1, round(KEY_INTERVAL_S * fps))
        self._pace = Pace(target_bps, fps, _HEADROOM)
        self._opened_bps = 0
        self._context = self._open()
        self._since_key = 0  # pictures since the last key frame, itself included

    def _open(self) -> av.VideoCodecContext:
        rate = self._opened_bps = self._pace.encoder_bps
        context = av.CodecContext.create("libvpx", "w")
        context.width, context.height, context.pix_fmt = self._width, self._height, "yuv420p"
        context.time_base = _TIME_BASE
        context.framerate = Fraction(self._fps).limit_denominator(1001)
        context.gop_size = 2 * self._interval  # the interval is kept here
        context.qmin, context.qmax = 2, 63
        context.thread_count = 1
        context.bit_rate = rate
        context.options = {
            "deadline": "realtime",
            "cpu-used": "-6",  # a fixed speed; a positive one follows the clock of a process that also waits
            "lag-in-frames": "0",
            "auto-alt-ref": "0",
            # The same least and most rate is what FFmpeg takes for "constant".
            "minrate": str(rate),
            "maxrate": str(rate),
            "bufsize": str(round(rate * _BUFFER_S)),
            "undershoot-pct": "100",
            "overshoot-pct": "15",
            # Pictures that even the coarsest quantiser makes too large (noise) are left out, or ten times
            # what was asked for would be sent.
            "drop-threshold": "1",
        }
        context.open()
        return context

    def set_bitrate(self, target_bps: float) -> None:
        """Takes effect with the next key frame."""
        self._pace.retarget(target_bps)

    def encode(self, frame: av.VideoFrame, at: float, key: bool) -> tuple[bytes, bool]:
        """One frame, empty when it was left out, and whether it is a key frame. `at`: show time in s."""
        key = key or self._since_key >= self._interval
        if key and abs(self._pace.encoder_bps / self._opened_bps - 1) > _REOPEN:
            self._context = self._open()
        frame.pts = round(at * VIDEO_CLOCK)
        frame.time_base = _TIME_BASE
        frame.pict_type = PictureType.I if key else PictureType.NONE
        packets = self._context.encode(frame)
        data = b"".join(bytes(packet) for packet in packets)
        is_key = any(packet.is_keyframe for packet in packets)
        self._since_key = 1 if is_key else self._since_key + 1
        filler = self._pace.filler(at, len(data))
        # What follows the last partition is passed over by a decoder: the boolean decoder reads what it needs
        # (RFC 6386 section 7.3), and the last partition has no length of its own (section 9.5).
        return data + bytes(filler if data else 0), is_key
