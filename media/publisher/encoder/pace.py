"""Keeping the bitrate: what is asked for is what goes out, whatever the content is worth.

x264 under a tight VBV stays a few per cent below its target on film and just above it on noise, libvpx at its
constant bitrate does about the same, and a plain picture (a slide, black) needs next to nothing. Three things
make the asked bitrate the sent one, second by second:

1. key frames once a second and a VBV of 250 ms: every second holds one key frame, so seconds are alike;
2. a slow correction: once a second the encoder's target is moved by part of the error of the last three;
3. a floor: when the last second falls below 97 % of the target, filler that decoders skip (H.264 NAL unit
   type 12; zeros after a VP8 frame) is added after the picture. A broadcaster who asks for 4.5 Mbps is
   testing or feeding something that expects 4.5 Mbps; who wants less asks for less.

Counted are RTP bytes: payload and the 12-byte header. Pure: show time is an argument.
"""

from collections import deque

from media.publisher.packets import MAX_PAYLOAD

_PACKET_COST = 14  # RTP header and the two bytes of an FU-A fragment

KEY_INTERVAL_S = 1.0
VBV_S = 0.25
HEADROOM = 1.04  # x264's own target and VBV rate, over what its payload should come to
_CORRECTION = 0.5  # share of the error taken up each second
_LOWEST, _HIGHEST = 0.85, 1.0  # of the encoder's target; it cannot rise over the VBV rate it was opened with
_FLOOR = 0.97
_WINDOW_S, _LONG_WINDOW_S = 1.0, 3.0


def sound_bps(total_bps: float) -> int:
    """What sound gets of a bitrate."""
    return 128_000 if total_bps >= 3_000_000 else 64_000 if total_bps >= 1_000_000 else 32_000


def video_bps(total_bps: float, sound: bool) -> float:
    """What pictures get, RTP headers included: the asked bitrate less half of the sound, so that whoever
    counts the picture alone and whoever counts all of it both find what was asked for."""
    return max(0.8 * total_bps, total_bps - sound_bps(total_bps) / 2) if sound else total_bps


def rtp_bytes(size: int) -> int:
    """RTP bytes for one access unit of this size."""
    return size + -(-size // (MAX_PAYLOAD - 2)) * _PACKET_COST


def payload_bps(rtp_bps: float) -> float:
    return rtp_bps * MAX_PAYLOAD / (MAX_PAYLOAD + _PACKET_COST)


class Pace:
    """Tells, picture by picture, how much filler to add and what the encoder should aim at."""

    def __init__(self, target_bps: float, fps: float, headroom: float = HEADROOM) -> None:
        """`headroom`: the encoder's own target, over what its payload should come to."""
        self._fps = fps
        self._headroom = headroom
        self._frames: deque[tuple[float, int, int]] = deque()  # show time, RTP bytes coded, filler
        self._correction = 1.0
        self._next_correction = 0.0
        self.target_bps = target_bps
        self.retarget(target_bps)

    def retarget(self, target_bps: float) -> None:
        self.target_bps = target_bps
        self._frames.clear()
        self._next_correction = 0.0

    @property
    def encoder_bps(self) -> int:
        """What the encoder is to aim at now."""
        return round(payload_bps(self.target_bps) * self._headroom * self._correction)

    def filler(self, at: float, size: int) -> int:
        """A picture of `size` bytes was coded at a show time. Bytes of filler to send after it."""
        frames = self._frames
        cost = rtp_bytes(size)
        while frames and frames[0][0] <= at - _LONG_WINDOW_S:
            frames.popleft()
        span = min(_WINDOW_S, at - frames[0][0] + 1 / self._fps) if frames else 1 / self._fps
        recent = sum(coded + added for t, coded, added in frames if t > at - _WINDOW_S) + cost
        missing = _FLOOR * self.target_bps / 8 * span - recent
        added = max(0, min(round(missing), round(2 * self.target_bps / 8 / self._fps)))
        frames.append((at, cost, added))
        self._correct(at)
        return added

    def _correct(self, at: float) -> None:
        if not self._next_correction:
            self._next_correction = at + 2.0
        if at < self._next_correction:
            return
        self._next_correction = at + 1.0
        span = at - self._frames[0][0] + 1 / self._fps
        sent = sum(coded + added for _, coded, added in self._frames) * 8 / span
        error = self.target_bps / sent
        self._correction = min(_HIGHEST, max(_LOWEST, self._correction * (1 + _CORRECTION * (error - 1))))
