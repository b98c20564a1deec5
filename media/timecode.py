"""The machine-readable time code of the test pattern: drawn by the publisher, read by viewers that measure.

A strip of 48 black and white blocks in the top left corner carries the moment a picture was captured, so that
whoever shows the picture can tell how old it is: glass to glass, whatever lies between.

    block side   floor(width / 64) px, rounded down to even (20 px at 1280)
    place        from x = 2 blocks, y = 1 block; 48 blocks in a row, 2 blocks tall; a dark margin of 1 block
    blocks       4 of sync (white black white black), 40 of payload (most significant bit first), 4 of check
    payload      Unix time in milliseconds, modulo 2^40 (34 years)
    checksum     the exclusive or of the payload's ten 4-bit nibbles
    levels       white is luma 235, black is luma 16

A reader takes the mean of the middle quarter of each block, sets its threshold half-way between the sync's
white and black, and ignores a picture whose sync or checksum does not match: lossy coding may blur a block,
and most pictures of the world are not ours.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

Luma = npt.NDArray[np.uint8]  # shape (height, width)

WHITE, BLACK = 235, 16
PAYLOAD_BITS = 40
MODULUS = 1 << PAYLOAD_BITS
MIN_WIDTH, MIN_HEIGHT = 640, 360

_SYNC = (1, 0, 1, 0)
_BLOCKS = len(_SYNC) + PAYLOAD_BITS + 4
_MIN_CONTRAST = 60.0  # between sync white and sync black; 219 when nothing was lost


def block_side(width: int) -> int:
    """The side of one block in pixels, for a picture of this width."""
    return width // 64 // 2 * 2


def strip_size(width: int) -> tuple[int, int]:
    """Width and height in pixels of the corner that the strip and its margin cover."""
    side = block_side(width)
    return (_BLOCKS + 3) * side, 4 * side


def checksum(payload: int) -> int:
    result = 0
    while payload:
        result ^= payload & 0xF
        payload >>= 4
    return result


def code_of(unix_s: float) -> int:
    """The payload for a moment given in seconds of Unix time."""
    return round(unix_s * 1000) % MODULUS


def draw(luma: Luma, unix_s: float) -> None:
    """Draw the code of a moment into the luma plane of a picture (in place)."""
    payload = code_of(unix_s)
    side = block_side(luma.shape[1])
    word = (0b1010 << (PAYLOAD_BITS + 4)) | (payload << 4) | checksum(payload)
    bits = (word >> np.arange(_BLOCKS - 1, -1, -1)) & 1
    row = np.where(bits.repeat(side), WHITE, BLACK).astype(np.uint8)
    width, height = strip_size(luma.shape[1])
    luma[:height, :width] = BLACK
    luma[side : 3 * side, 2 * side : (2 + _BLOCKS) * side] = row


def read(luma: npt.NDArray[Any]) -> int | None:
    """The payload of a picture's code, None where there is none that can be trusted."""
    height, width = luma.shape
    side = block_side(width)
    if width < MIN_WIDTH or height < max(MIN_HEIGHT, 3 * side):  # a picture may be wide and low
        return None
    strip = luma[side : 3 * side, 2 * side : (2 + _BLOCKS) * side].astype(np.float32)
    blocks = strip.reshape(2 * side, _BLOCKS, side)
    # The middle half of the height by the middle half of the width: a quarter of the block.
    levels = blocks[side // 2 : 2 * side - side // 2, :, side // 4 : side - side // 4].mean(axis=(0, 2))
    white, black = (levels[0] + levels[2]) / 2, (levels[1] + levels[3]) / 2
    if white - black < _MIN_CONTRAST:
        return None
    bits = levels > (white + black) / 2
    if tuple(bits[:4]) != _SYNC:
        return None
    word = 0
    for bit in bits[4:]:
        word = word << 1 | int(bit)
    payload = word >> 4
    return payload if checksum(payload) == word & 0xF else None


def age_ms(payload: int, unix_s: float) -> float:
    """How old a picture with this code is at a moment; negative when the code lies in the future."""
    difference = (unix_s * 1000 - payload) % MODULUS
    return difference - MODULUS if difference > MODULUS / 2 else difference
