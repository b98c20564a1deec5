"""Just enough of H.264 in RTP (RFC 6184) to gate on key frames and to say a stream's resolution.

Nothing is decoded. Payloads are read as single NAL units, STAP-A aggregates or FU-A fragments
(packetization-mode 1); other kinds are treated as opaque.
"""

from media.core.errors import ParseError
from media.core.picture import Resolution

SLICE, IDR, SEI, SPS, PPS, AUD = 1, 5, 6, 7, 8, 9
STAP_A, FU_A = 24, 28


def nal_types(payload: bytes | memoryview) -> tuple[int, ...]:
    """Types of the NAL units that begin in this payload (a middle FU-A fragment begins none)."""
    if not payload:
        return ()
    kind = payload[0] & 0x1F
    if kind == FU_A:
        if len(payload) < 2 or not payload[1] & 0x80:
            return ()
        return (payload[1] & 0x1F,)
    if kind != STAP_A:
        return (kind,)
    found = []
    at, end = 1, len(payload)
    while at + 2 < end:
        size = payload[at] << 8 | payload[at + 1]
        at += 2
        if size:
            found.append(payload[at] & 0x1F)
        at += size
    return tuple(found)


def is_keyframe_start(payload: bytes | memoryview) -> bool:
    """Whether a decoder can start here: an SPS, or the beginning of an IDR slice, begins in the payload.

    Of a key frame sent as SPS, PPS and several IDR slices more than one packet says yes: act on the first.
    """
    if not payload or not may_start_keyframe(payload[0], payload[1] if len(payload) > 1 else 0):
        return False
    if payload[0] & 0x1F != STAP_A:
        return True
    found = nal_types(payload)
    return IDR in found or SPS in found


def may_start_keyframe(first: int, second: int) -> bool:
    """Whether a decoder may be able to start at a payload that begins with these two bytes (0 for none).

    Of an aggregate more has to be seen: `is_keyframe_start`.
    """
    kind = first & 0x1F
    return kind in (IDR, SPS, STAP_A) or (kind == FU_A and second & 0x9F == 0x80 | IDR)


def sps_of(payload: bytes | memoryview) -> bytes | None:
    """The sequence parameter set in this payload (alone or in a STAP-A), if there is one."""
    if not payload:
        return None
    kind = payload[0] & 0x1F
    if kind == SPS:
        return bytes(payload)
    if kind != STAP_A:
        return None
    at, end = 1, len(payload)
    while at + 2 < end:
        size = payload[at] << 8 | payload[at + 1]
        at += 2
        if size and payload[at] & 0x1F == SPS:
            return bytes(payload[at : at + size])
        at += size
    return None


class _Bits:
    """A reader of an RBSP (emulation prevention bytes removed), clause 7.2 and 9.1 of H.264."""

    def __init__(self, nal: bytes) -> None:
        self._data = nal.replace(b"\x00\x00\x03", b"\x00\x00")
        self._at = 0

    def bit(self) -> int:
        byte, offset = divmod(self._at, 8)
        if byte >= len(self._data):
            raise ParseError("SPS ends too early")
        self._at += 1
        return self._data[byte] >> (7 - offset) & 1

    def bits(self, count: int) -> int:
        value = 0
        for _ in range(count):
            value = value << 1 | self.bit()
        return value

    def ue(self) -> int:
        zeros = 0
        while not self.bit():
            zeros += 1
            if zeros > 32:
                raise ParseError("SPS holds an Exp-Golomb code longer than 32 bits")
        return (1 << zeros) - 1 + self.bits(zeros)

    def se(self) -> int:
        value = self.ue()
        return (value + 1) // 2 if value & 1 else -(value // 2)

    def skip_scaling_list(self, size: int) -> None:
        last = following = 8
        for _ in range(size):
            if following:
                following = (last + self.se()) & 0xFF
            last = following or last


_WITH_CHROMA = frozenset({100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135})


def resolution(sps: bytes) -> Resolution:
    """Width and height in pixels of a sequence parameter set (with its NAL header byte), cropping applied.

    Raises ParseError when it is not an SPS or is cut short.
    """
    if len(sps) < 4 or sps[0] & 0x1F != SPS:
        raise ParseError("not a sequence parameter set")
    reader = _Bits(sps[1:])
    profile = reader.bits(8)
    reader.bits(16)  # constraint flags, level
    reader.ue()  # seq_parameter_set_id
    chroma = 1
    if profile in _WITH_CHROMA:
        chroma = reader.ue()
        if chroma == 3:
            reader.bit()  # separate_colour_plane_flag
        reader.ue()
        reader.ue()
        reader.bit()
        if reader.bit():  # seq_scaling_matrix_present_flag
            for index in range(8 if chroma != 3 else 12):
                if reader.bit():
                    reader.skip_scaling_list(16 if index < 6 else 64)
    reader.ue()  # log2_max_frame_num_minus4
    order = reader.ue()
    if order == 0:
        reader.ue()
    elif order == 1:
        reader.bit()
        reader.se()
        reader.se()
        cycle = reader.ue()
        if cycle > 255:
            raise ParseError("SPS holds an impossible picture order count cycle")
        for _ in range(cycle):
            reader.se()
    reader.ue()  # max_num_ref_frames
    reader.bit()
    width = (reader.ue() + 1) * 16
    map_units = reader.ue() + 1
    frame_only = reader.bit()
    if not frame_only:
        reader.bit()
    height = map_units * 16 * (2 - frame_only)
    reader.bit()  # direct_8x8_inference_flag
    if reader.bit():
        left, right, top, bottom = reader.ue(), reader.ue(), reader.ue(), reader.ue()
        unit_x = 2 if chroma in (1, 2) else 1
        unit_y = (2 if chroma == 1 else 1) * (2 - frame_only)
        width -= (left + right) * unit_x
        height -= (top + bottom) * unit_y
    if not (0 < width <= 16384 and 0 < height <= 16384):
        raise ParseError("SPS holds an impossible picture size")
    return Resolution(width, height)
