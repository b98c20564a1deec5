"""RTP payloads of ours are read back by another implementation, and fit."""

import pytest
from aiortc.codecs.h264 import h264_depayload
from hypothesis import given
from hypothesis import strategies as st

from media.publisher import annexb
from media.publisher.packets import MAX_PAYLOAD, payloads

# NAL units of every size that matters, none with a start code or a zero at the end in it.
units = st.builds(
    lambda kind, size, fill: bytes([0x60 | kind]) + bytes([fill]) * size,
    st.sampled_from([1, 5, 6, 7, 8, 12]),
    st.one_of(st.integers(1, 60), st.integers(MAX_PAYLOAD - 6, MAX_PAYLOAD + 6), st.integers(1, 20_000)),
    st.integers(1, 255),
)


@given(st.lists(units, min_size=1, max_size=12))
def test_another_implementation_reads_the_same_units(wanted: list[bytes]) -> None:
    stream = b"".join(annexb.START_CODE + unit for unit in wanted)
    parts = payloads(stream)
    assert all(0 < len(part) <= MAX_PAYLOAD for part in parts)
    told = [unit for unit in wanted if not annexb.is_idle(unit)]
    assert list(annexb.units(b"".join(h264_depayload(part) for part in parts))) == told


@given(st.integers(MAX_PAYLOAD + 1, 200_000))
def test_fragments_are_of_one_size_and_only_the_last_is_shorter(size: int) -> None:
    parts = payloads(annexb.START_CODE + b"\x65" + b"\xaa" * (size - 1))
    assert len({len(part) for part in parts[:-1]}) <= 1
    assert len(parts[-1]) <= len(parts[0])
    assert parts[0][1] & 0x80
    assert parts[-1][1] & 0x40


@pytest.mark.parametrize(
    ("unit", "idle"),
    [
        ("09f0", True),  # a delimiter
        ("0c" + "ff" * 900 + "80", False),  # filler holds the bitrate
        ("06" + "0104" + "00000300" + "80", True),  # picture timing, with emulation prevention
        ("06" + "0003" + "aabbcc" + "0101" + "10" + "80", True),  # buffering period and picture timing
        ("06" + "04" + "03" + "b50031" + "80", False),  # captions (registered user data)
        ("06" + "0101" + "10" + "05" + "02" + "aabb" + "80", False),  # timing, and something else
        ("06" + "ff05" + "01" + "aa" + "80", False),  # a type of 260
        ("06" + "0601" + "c0" + "80", False),  # a recovery point
        ("65" + "88" * 40, False),
        ("6742c01e", False),
    ],
)
def test_only_what_tells_a_live_viewer_nothing_is_idle(unit: str, idle: bool) -> None:
    assert annexb.is_idle(bytes.fromhex(unit)) == idle


@given(st.binary(max_size=40))
def test_an_sei_unit_of_any_bytes_is_judged(body: bytes) -> None:
    annexb.is_idle(b"\x06" + body)


def test_delimiters_are_left_out_and_parameter_sets_travel_together() -> None:
    stream = b"".join(
        annexb.START_CODE + unit
        for unit in (b"\x09\xf0", b"\x67\x42\xc0", b"\x68\xce", b"\x65" + b"\x11" * 3000)
    )
    parts = payloads(stream)
    assert parts[0][0] & 0x1F == 24
    assert [part[0] & 0x1F for part in parts[1:]] == [28] * (len(parts) - 1)


@given(st.binary(max_size=300))
def test_any_bytes_at_all_do_no_harm(data: bytes) -> None:
    assert all(len(part) <= MAX_PAYLOAD for part in payloads(data))
