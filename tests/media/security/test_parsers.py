"""Every parser that a stranger's bytes reach fails with its own error, or not at all.

What each one reads is tested beside it (tests/media/core); here all of them are listed, and given the same
rubbish: bytes, and genuine messages that were cut, doubled and bent.
"""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.core import dtls, h264, rtcp, rtp, sdp, stun, vp8
from media.core.certificate import Certificate
from media.core.dtls import DtlsEndpoint
from media.core.errors import DtlsError, IntegrityError, NegotiationError, ParseError, SrtpError
from media.core.srtp import PROFILES, InboundSrtp, SrtpKeys
from media.drive.demux import Demux
from tests.media.core.emulated_network import certificate, subscribe
from tests.media.security.stand import nomination
from tests.media.security.test_client_hellos_from_elsewhere import client_hello

GOLDEN = Path(__file__).parents[1] / "core" / "golden"


def extensions(data: bytes) -> None:
    rtp.extensions(data, rtp.parse_header(data))


def inbound(data: bytes) -> None:
    keys = SrtpKeys(PROFILES[0], *(bytes(size) for size in (16, 12, 16, 12)))
    receiver = InboundSrtp(keys)
    for read in (receiver.unprotect, receiver.unprotect_rtcp):
        read(data)


def verify(data: bytes) -> None:
    message = stun.Message.parse(data)
    _ = (message.username, message.mapped_address, message.error_code, message.unknown_required())
    message.verify(b"password")


PARSERS: dict[str, tuple[Callable[[bytes], Any], tuple[type[Exception], ...]]] = {
    "stun": (verify, (ParseError, IntegrityError)),
    "stun user name": (stun.username, ()),
    "demux": (lambda data: Demux[str]().find(data, ("127.0.0.1", 9)), ()),
    "dtls records": (dtls._of_a_handshake, ()),
    "dtls server": (
        lambda data: DtlsEndpoint(certificate("a"), "server", ()).receive(data, 0.0),
        (DtlsError,),
    ),
    "rtp": (extensions, (ParseError,)),
    "rtx": (lambda data: rtp.restore_rtx(data, payload_type=1, ssrc=1), (ParseError,)),
    "rtcp": (rtcp.parse_compound, (ParseError,)),
    "srtp": (inbound, (SrtpError,)),
    "h264 types": (h264.nal_types, ()),
    "h264 key frame": (h264.is_keyframe_start, ()),
    "h264 parameters": (h264.sps_of, ()),
    "h264 size": (h264.resolution, (ParseError,)),
    "vp8 key frame": (vp8.is_keyframe_start, ()),
    "vp8 size header": (vp8.size_header_of, ()),
    "vp8 size": (vp8.resolution, (ParseError,)),
    "sdp offer": (sdp.parse_offer, (NegotiationError,)),
    "sdp answer": (sdp.parse_answer, (NegotiationError,)),
    "sdp fragment": (sdp.parse_fragment, (NegotiationError,)),
    "pem": (Certificate.from_pem, (ParseError,)),
}
GENUINE = [
    client_hello(),
    nomination("us:them", b"password"),
    rtcp.build_compound([rtcp.ReceiverReport(1), rtcp.Nack(1, 2, (3, 4)), rtcp.Remb(1, 2_000_000, (2,))]),
    rtp.build(payload_type=96, sequence=1, timestamp=2, ssrc=3, payload=b"\x65" * 30),
    bytes.fromhex("6742e01fda014016e84000000300400000078c50a80f162eb0"),
    certificate("a").to_pem(),
    *(path.read_bytes() for path in sorted(GOLDEN.glob("*.sdp"))),
]


def poke(name: str, data: bytes) -> None:
    parse, errors = PARSERS[name]
    try:
        parse(data)
    except errors:
        pass


@pytest.mark.parametrize("name", PARSERS)
@given(data=st.binary(max_size=300))
def test_rubbish(name: str, data: bytes) -> None:
    for first in (b"", b"\x00\x01", b"\x16\xfe\xfd", b"\x80\x60", b"\x81\xc9", b"v=0\r\n"):
        poke(name, first + data)


@pytest.mark.parametrize("name", PARSERS)
@given(genuine=st.sampled_from(GENUINE), data=st.data())
def test_bent_messages(name: str, genuine: bytes, data: st.DataObject) -> None:
    bent = bytearray(genuine)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(bent) - 1))
        match data.draw(st.sampled_from(("byte", "cut", "double", "insert"))):
            case "byte":
                bent[at] = data.draw(st.integers(0, 255))
            case "cut" if at:
                del bent[at:]
            case "double":
                bent += bent[at:]
            case "insert":
                bent[at:at] = data.draw(st.binary(max_size=8))
    poke(name, bytes(bent))


@pytest.mark.parametrize("name", ["rtcp", "srtp", "demux", "stun"])
def test_rtcp_of_every_kind_and_length(name: str) -> None:
    chance = random.Random(1)
    for kind in range(192, 224):
        for length in range(65):
            for count in (0, 1, 5, 31, 32, 63):
                for words in (length // 4, 0, 1, 0xFFFF):
                    head = bytes((0x80 | count, kind)) + words.to_bytes(2, "big")
                    poke(name, (head + chance.randbytes(length))[:length])


@given(st.binary(max_size=200) | st.sampled_from([client_hello()]))
def test_what_is_handed_to_openssl_is_whole_records_of_a_handshake(data: bytes) -> None:
    for datagram in (data, client_hello() + data, data + client_hello()):
        kept = dtls._of_a_handshake(datagram)
        assert len(kept) <= len(datagram)
        assert {kind for kind, *_ in dtls._records(kept)} <= {20, 21, 22}
        assert sum(end - start for _, _, start, end in dtls._records(kept)) == len(kept)
    hello = client_hello()
    assert dtls._of_a_handshake(hello) == hello
    assert dtls._of_a_handshake(b"\x17" + hello[1:]) == b""


@given(st.lists(st.binary(max_size=120), max_size=5), st.integers(0, 12))
def test_a_session_in_any_state_takes_anything(datagrams: list[bytes], steps: int) -> None:
    pair = subscribe()
    for _ in range(steps):
        pair.network.step()
    for datagram in datagrams:
        for source in (pair.edge.address, ("203.0.113.66", 6666)):
            for first in (b"", b"\x00\x01", b"\x01\x01", b"\x16\xfe\xfd\x00\x00", b"\x17", b"\x80\xc9"):
                pair.origin.session.receive(first + datagram, source, pair.network.now)
    pair.network.drain(pair.origin)
    pair.network.run_for(1)


@pytest.mark.parametrize("name", ["sdp offer", "sdp answer", "sdp fragment"])
def test_a_megabyte_of_sdp_is_refused_before_it_is_read(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is in it: not a line of it is looked at."""
    parse, _ = PARSERS[name]
    read: list[int] = []
    monkeypatch.setattr("media.core.description._Draft.attribute", lambda *_: read.append(1))
    for huge in (b"v=0\r\n" + b"a=x\r\n" * 200_000, b"\xff" * 1_000_000, b"v=0\r\n" + b"m" * 1_000_000):
        with pytest.raises(NegotiationError) as refused:
            parse(huge)
        assert refused.value.status == 413
    assert read == []
