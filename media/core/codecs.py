"""The video codecs a live stream can have, behind one shape: what the fan-out has to see in a packet.

Nothing of a picture is decoded here. Adding a codec is: a module like `h264` and `vp8`, a line in
`VIDEO_CODECS`, its payload types in our own offers and its rule of choice in `sdp`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from media.core import h264, vp8
from media.core.picture import Resolution

Payload: TypeAlias = bytes | memoryview


@dataclass(frozen=True, slots=True)
class VideoCodec:
    """One codec. The first two are asked for every packet or run of them, the others for a key frame's."""

    name: str  # as SDP's rtpmap and our reports say it
    spoken: str  # as people write it
    is_keyframe_start: Callable[[Payload], bool]  # whether a decoder can start with this packet
    may_start_keyframe: Callable[[int, int], bool]  # by the payload's first two bytes; False: surely not
    size_header_of: Callable[[Payload], bytes | None]  # what in this packet tells the picture's size
    resolution: Callable[[bytes], Resolution]  # of such a header; raises ParseError


H264: Final = VideoCodec(
    "H264", "H.264", h264.is_keyframe_start, h264.may_start_keyframe, h264.sps_of, h264.resolution
)
VP8: Final = VideoCodec(
    "VP8", "VP8", vp8.is_keyframe_start, vp8.may_start_keyframe, vp8.size_header_of, vp8.resolution
)
VIDEO_CODECS: Final = (H264, VP8)  # what we choose first comes first: docs/decisions/0012


def video_codec(name: str | None) -> VideoCodec | None:
    """The codec of this name, in capitals or not; None for one we do not carry."""
    return next((codec for codec in VIDEO_CODECS if name and codec.name.lower() == name.lower()), None)
