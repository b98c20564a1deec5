"""Sound to Opus: 20 ms packets of music quality, where aiortc's own encoder is made for speech."""

from fractions import Fraction

import av
import numpy as np

from media.publisher.pipe import SOUND_CLOCK
from media.publisher.sources.port import Sound

FRAME_SAMPLES = 960
FRAME_S = FRAME_SAMPLES / SOUND_CLOCK
SILENCE_DB = -90.0
_TIME_BASE = Fraction(1, SOUND_CLOCK)


class SoundEncoder:
    def __init__(self, bit_rate: int) -> None:
        context = av.CodecContext.create("libopus", "w")
        context.format, context.layout, context.sample_rate = "s16", "stereo", SOUND_CLOCK
        context.time_base = _TIME_BASE
        context.bit_rate = bit_rate
        context.options = {"application": "audio", "frame_duration": "20", "vbr": "constrained"}
        context.open()
        self._context = context

    def encode(self, samples: Sound, first: int) -> list[bytes]:
        """960 samples from sample number `first` of the show: their packet (the first call may give none)."""
        frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1), format="s16", layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = SOUND_CLOCK, first, _TIME_BASE
        return [bytes(packet) for packet in self._context.encode(frame)]


def level_db(samples: Sound) -> float:
    """RMS of both channels in dB below full scale."""
    power = float(np.mean(np.square(samples, dtype=np.float64)))
    return max(SILENCE_DB, 10 * float(np.log10(power / 32768**2))) if power else SILENCE_DB
