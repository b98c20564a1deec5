"""RTCP packets there and back, known bytes, and rubbish of every length."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.core import rtcp
from media.core.errors import ParseError

U32 = st.integers(0, 2**32 - 1)
REPORTS = st.builds(
    rtcp.ReceptionReport, U32, st.integers(0, 255), st.integers(-(2**23), 2**23 - 1), U32, U32, U32, U32
)
PACKETS = st.one_of(
    st.builds(
        rtcp.SenderReport,
        U32,
        st.integers(0, 2**64 - 1),
        U32,
        U32,
        U32,
        st.lists(REPORTS, max_size=3).map(tuple),
    ),
    st.builds(rtcp.ReceiverReport, U32, st.lists(REPORTS, max_size=3).map(tuple)),
    st.builds(
        rtcp.SourceDescription,
        st.lists(st.tuples(U32, st.text(st.characters(codec="ascii"), max_size=20)), max_size=3).map(tuple),
    ),
    st.builds(rtcp.Goodbye, st.lists(U32, max_size=3).map(tuple)),
    st.builds(rtcp.Pli, U32, U32),
    st.builds(rtcp.Fir, U32, st.lists(st.tuples(U32, st.integers(0, 255)), max_size=3).map(tuple)),
    st.builds(
        rtcp.ExtendedReport,
        U32,
        st.none() | st.integers(0, 2**64 - 1),
        st.lists(st.builds(rtcp.Dlrr, U32, U32, U32), max_size=3).map(tuple),
    ),
    st.builds(rtcp.Remb, U32, st.integers(0, 2**18 - 1), st.lists(U32, max_size=3).map(tuple)),
)


@given(st.lists(PACKETS, min_size=1, max_size=5))
def test_what_is_built_is_read_back(packets: list[rtcp.RtcpPacket]) -> None:
    assert rtcp.parse_compound(rtcp.build_compound(packets)) == packets


@given(st.integers(0, 65535), st.sets(st.integers(0, 300), min_size=1, max_size=80))
def test_nacks_name_exactly_what_is_missing(start: int, gaps: set[int]) -> None:
    missing = tuple((start + gap) & 0xFFFF for gap in sorted(gaps))
    [nack] = rtcp.parse_compound(rtcp.Nack(1, 2, missing).to_bytes())
    assert nack == rtcp.Nack(1, 2, missing)


def test_neighbours_share_a_nack_entry() -> None:
    assert len(rtcp.Nack(1, 2, tuple(range(65530, 65536)) + tuple(range(11))).to_bytes()) == 16


@given(st.integers(0, 2**40))
def test_remb_keeps_eighteen_bits(bitrate: int) -> None:
    [remb] = rtcp.parse_compound(rtcp.Remb(1, bitrate, (2,)).to_bytes())
    assert isinstance(remb, rtcp.Remb)
    assert 0 <= bitrate - remb.bitrate <= bitrate / 2**17


def test_known_bytes() -> None:
    """A PLI, a REMB of 2 Mbps and a BYE as browsers send them."""
    pli = bytes.fromhex("81ce0002 00000001 12345678".replace(" ", ""))
    remb = bytes.fromhex("8fce0005 00000001 00000000 52454d42 010fd090 12345678".replace(" ", ""))
    bye = bytes.fromhex("81cb0001 12345678".replace(" ", ""))
    assert rtcp.parse_compound(pli + remb + bye) == [
        rtcp.Pli(1, 0x12345678),
        rtcp.Remb(1, 2_000_000, (0x12345678,)),
        rtcp.Goodbye((0x12345678,)),
    ]


def test_padding_is_taken_off() -> None:
    padded = bytes.fromhex("a1ce0003 00000001 12345678 00000004".replace(" ", ""))
    assert rtcp.parse_compound(padded) == [rtcp.Pli(1, 0x12345678)]


def test_what_is_not_known_is_kept_whole() -> None:
    app = bytes.fromhex("80cc0002 00000001 6e616d65".replace(" ", ""))
    assert rtcp.parse_compound(app) == [rtcp.Unknown(204, 0, app[4:])]
    feedback = bytes.fromhex("8fcd0003 00000001 00000002 cafebabe".replace(" ", ""))
    assert rtcp.parse_compound(feedback) == [rtcp.TransportFeedback(1, 2, b"\xca\xfe\xba\xbe")]
    assert rtcp.build_compound(rtcp.parse_compound(app + feedback)) == app + feedback


def test_round_trips_come_out_of_report_times() -> None:
    sent = rtcp.ntp_from_unix(1_760_000_000.0)
    now = rtcp.ntp_from_unix(1_760_000_000.350)
    delay = int(0.300 * 65536)
    assert rtcp.round_trip(now, rtcp.middle(sent), delay) == pytest.approx(0.050, abs=1e-4)
    assert rtcp.round_trip(now, 0, 0) is None
    assert rtcp.round_trip(sent, rtcp.middle(sent), delay) == 0.0
    assert rtcp.unix_from_ntp(sent) == pytest.approx(1_760_000_000.0)


@given(st.binary(max_size=64))
def test_rubbish_raises_nothing_else(data: bytes) -> None:
    _poke(data)


@pytest.mark.parametrize("kind", range(192, 224))
def test_every_kind_count_and_length_is_survived(kind: int) -> None:
    chance = random.Random(kind)
    for count in range(64):  # the padding bit included
        for length in range(65):
            body = chance.randbytes(length)
            words = length // 4
            _poke(bytes((0x80 | count, kind)) + words.to_bytes(2, "big") + body)
    for length in (0, 1, 2, 3, 0xFFFF):
        _poke(bytes((0x81, kind)) + length.to_bytes(2, "big") + bytes(8))


def _poke(data: bytes) -> None:
    try:
        packets = rtcp.parse_compound(data)
    except ParseError:
        return
    for packet in packets:
        rtcp.parse_compound(packet.to_bytes())


def test_a_nack_longer_than_any_datagram_is_refused() -> None:
    every_second = tuple(range(0, 0x10000, 17))
    with pytest.raises(ParseError):
        rtcp.parse_compound(rtcp.Nack(1, 2, every_second).to_bytes())
