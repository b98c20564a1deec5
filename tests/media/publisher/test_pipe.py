"""The pipe's framing."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.publisher.pipe import (
    Item,
    Kind,
    Order,
    PipeError,
    pack_header,
    pack_order,
    read_order,
    unpack_header,
)


@given(
    st.sampled_from(Kind),
    st.binary(max_size=99),
    st.integers(-(2**62), 2**62),
    st.floats(0, 1e12),
    st.booleans(),
)
def test_a_header_says_what_it_was_made_from(
    kind: Kind, payload: bytes, pts: int, capture: float, key: bool
) -> None:
    header = pack_header(Item(kind, payload, pts, capture, key))
    assert unpack_header(header) == (len(payload), kind, key, pts, capture)


@pytest.mark.parametrize("header", [b"\xff" * 22, b"\x00" * 22, b"GET / HTTP/1.1\r\nHost: x"[:22]])
def test_garbage_is_no_header(header: bytes) -> None:
    with pytest.raises(PipeError):
        unpack_header(header)


def test_orders_come_one_by_one_until_the_pipe_closes() -> None:
    stream = io.BytesIO(pack_order(Order.BITRATE, 4.5e6) + pack_order(Order.KEY_FRAME) + b"\x01\x02")
    assert read_order(stream) == (Order.BITRATE, 4.5e6)
    assert read_order(stream) == (Order.KEY_FRAME, 0.0)
    assert read_order(stream) is None
