"""Just enough of VP8 in RTP (RFC 7741) to gate on key frames and to say a stream's resolution.

Nothing is decoded. A payload is a descriptor of one to six bytes and a piece of a frame; the first piece of a
frame begins with the frame header (RFC 6386 section 9.1), which tells a key frame, and its size.
"""

from media.core.errors import ParseError
from media.core.picture import Resolution

START_CODE = b"\x9d\x01\x2a"  # of a key frame, RFC 6386 section 9.1
_FRAME_TAG = 3  # bytes before the start code: key frame or not, version, size of the first partition

_EXTENDED, _START, _PARTITION = 0x80, 0x10, 0x07  # X, S and PID of the first byte
_PICTURE_ID, _TL0PICIDX, _TID, _KEYIDX = 0x80, 0x40, 0x20, 0x10  # I, L, T and K of the second


def descriptor_size(payload: bytes | memoryview) -> int | None:
    """Bytes of the payload descriptor (RFC 7741 section 4.2); None when the payload ends in it."""
    size = len(payload)
    if not size:
        return None
    at = 1
    if payload[0] & _EXTENDED:
        if size < 2:
            return None
        flags = payload[1]
        at = 2
        if flags & _PICTURE_ID:
            if size < 3:
                return None
            at += 2 if payload[2] & 0x80 else 1
        if flags & _TL0PICIDX:
            at += 1
        if flags & (_TID | _KEYIDX):
            at += 1
    return at if at <= size else None


def is_keyframe_start(payload: bytes | memoryview) -> bool:
    """Whether a decoder can start here: the payload begins a frame (S, PID 0), a key frame (P is 0)."""
    if not payload or not may_start_keyframe(payload[0], 0):
        return False
    at = descriptor_size(payload)
    return at is not None and at < len(payload) and not payload[at] & 1


def may_start_keyframe(first: int, second: int) -> bool:
    """Whether a decoder may be able to start at a payload that begins like this: it begins a frame."""
    return first & (_START | _PARTITION) == _START


def size_header_of(payload: bytes | memoryview) -> bytes | None:
    """The part of a key frame's header that tells its size, if this payload begins one; see `resolution`."""
    if not is_keyframe_start(payload):
        return None
    at = descriptor_size(payload)
    if at is None:
        return None
    header = bytes(payload[at + _FRAME_TAG : at + _FRAME_TAG + 7])
    return header if len(header) == 7 else None


def resolution(header: bytes) -> Resolution:
    """Width and height in pixels out of seven bytes: the start code, then twice 14 bits and a scale.

    The scale (bits 14 and 15) asks for upsampling at display; the picture is as large as it is coded.
    Raises ParseError when it is no key frame's header.
    """
    if len(header) < 7 or header[:3] != START_CODE:
        raise ParseError("no start code of a VP8 key frame")
    width = (header[3] | header[4] << 8) & 0x3FFF
    height = (header[5] | header[6] << 8) & 0x3FFF
    if not width or not height:
        raise ParseError("a VP8 key frame without size")
    return Resolution(width, height)
