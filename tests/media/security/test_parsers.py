"""Every parser that a stranger's bytes reach fails with its own error, or not at all.

What each one reads is tested beside it (tests/media/core); here all of them are listed, and given the same
rubbish: bytes, and genuine messages that were cut, doubled and bent.
"""

import base64
import importlib
import inspect
import pkgutil
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import media.core
from media.core import description, dtls, h264, rtcp, rtp, runs, sdp, stun, vp8
from media.core.certificate import Certificate
from media.core.codecs import VIDEO_CODECS, video_codec
from media.core.dtls import DtlsEndpoint
from media.core.errors import DtlsError, IntegrityError, NegotiationError, ParseError, SrtpError
from media.core.framing import Deframer, frame
from media.core.srtp import PROFILES, InboundSrtp, SrtpKeys
from media.drive.demux import Demux
from media.drive.handover import worker_of
from media.publisher import annexb
from media.publisher.pipe import Item, Kind, PipeError, pack_header, unpack_header
from tests.media.core.emulated_network import certificate, subscribe
from tests.media.fanout.test_live_stream import VIDEO, Stage
from tests.media.golden import recordings
from tests.media.security.stand import nomination
from tests.media.security.test_client_hellos_from_elsewhere import client_hello

GOLDEN = Path(__file__).parents[1] / "core" / "golden"


def extensions(data: bytes) -> None:
    if not rtp.is_rtcp(data.ljust(2, b"\0")):
        header = rtp.parse_header(data)
        header.payload(data)
        rtp.extensions(data, header)
        rtp.strip_extensions(data)


def inbound(data: bytes) -> None:
    keys = SrtpKeys(PROFILES[0], *(bytes(size) for size in (16, 12, 16, 12)))
    receiver = InboundSrtp(keys)
    for size in (len(data) // 2, len(data)):
        refused = receiver.unprotect_run(memoryview(bytearray(data)), max(1, size), 2 - (size == len(data)))
        assert all(refused)
    for read in (receiver.unprotect, receiver.unprotect_rtcp):
        read(data)


def verify(data: bytes) -> None:
    message = stun.Message.parse(data)
    _ = (message.username, message.mapped_address, message.error_code, message.unknown_required())
    message.verify(b"password")


def follow(data: bytes) -> None:
    """By the precedent of each genuine check."""
    for check in GENUINE["stun"]:
        stun.Precedent(stun.Message.parse(check), ("192.0.2.1", 9), b"password").answer(data)


def a_run(data: bytes) -> None:
    """As a run of packets of each length, and whatever is done with one."""
    for stride in (13, 20, 42, 71, 200):
        buffer = bytearray(data)
        header = runs.parse_run(memoryview(buffer), stride)
        if header is None:
            continue
        for tag in (10, 16):
            if len(buffer) - (header.packets - 1) * stride < runs.HEADER + tag or stride < runs.HEADER + tag:
                continue  # the tags of all have been checked: there is room for them
            run = runs.PlainRun(header, memoryview(buffer), stride, tag)
            assert len(run.packets()) == header.packets
            run.padding()
            for codec in VIDEO_CODECS:
                run.begins_keyframe(codec)
            run.rewrite(1, 2, 3)


def look_up(data: bytes) -> None:
    demux = Demux[str]()
    demux.add("us", "a peer")
    for look in (demux.find, demux.suspects):
        look(data, ("127.0.0.1", 9))


def answered(data: bytes) -> None:
    """Every answer that we have to an offer."""
    offer = sdp.parse_offer(data)
    side = sdp.LocalDescription(sdp.IceCredentials("us", "password"), "AA", [("192.0.2.1", 20000)])
    answer = sdp.answer_publisher(offer, side).answer
    sdp.restart_fragment(answer, side)
    stream = sdp.StreamDescription(1, 2, 3, "a-name", "show")
    for codec in (None, *VIDEO_CODECS):
        sdp.answer_viewer(offer, side, stream, codec)


def units(data: bytes) -> None:
    annexb.types(data)
    for unit in annexb.units(data):
        annexb.is_idle(unit)


class Published:
    """A stream that has begun, and what its publisher and one viewer send next, decrypted."""

    def __init__(self) -> None:
        self.stage = Stage()
        _, self.viewer = self.stage.join(5001)
        self.stage.feed(self.stage.camera.frame(key=True))

    def rtp(self, data: bytes) -> None:
        """As the picture's and the sound's, if only by its payload type and SSRC."""
        for payload_type, ssrc in ((VIDEO.payload_type, 0xABCD), (97, 0xABCE), (111, 0xBEEF)):
            packet = bytearray(data.ljust(12, b"\0"))
            packet[1] = packet[1] & 0x80 | payload_type
            packet[8:12] = ssrc.to_bytes(4, "big")
            self.stage.feed([data, bytes(packet)])
        self.stage.advance(0.01)

    def rtcp(self, data: bytes) -> None:
        packets = rtcp.parse_compound(data)
        source = self.stage.stream.source
        assert source is not None
        source.receive_rtcp(packets, self.stage.now)
        self.stage.stream.feedback(self.viewer, packets, self.stage.now)
        self.stage.advance(0.01)


RECORDED = [recordings.load(name) for name in recordings.names()]
ELLIPTIC_CURVE = bytes.fromhex("2a8648ce3d0201")  # id-ecPublicKey (RFC 5480)
PARAMETER_SET = bytes.fromhex("6742e01fda014016e84000000300400000078c50a80f162eb0")
GENUINE: dict[str, list[bytes]] = {
    "stun": [nomination("us:them", b"password"), *(check for one in RECORDED for check in one.checks[:1])],
    "dtls": [client_hello(), *(hello for one in RECORDED for hello in one.hellos)],
    "rtp": [
        rtp.build(payload_type=96, sequence=1, timestamp=2, ssrc=3, payload=b"\x65" * 30),
        *(packet for one in RECORDED for packet in one.rtp),
    ],
    "run": [
        b"".join(
            rtp.build(payload_type=96, sequence=number, timestamp=2, ssrc=3, payload=payload.ljust(30))
            for number in range(4)
        )
        for payload in (b"\x65", b"\x7c\x85", b"\x90\x80")
    ],
    "rtcp": [
        rtcp.build_compound([rtcp.ReceiverReport(1), rtcp.Nack(1, 2, (3, 4)), rtcp.Remb(1, 2_000_000, (2,))]),
        *(compound for one in RECORDED for compound in one.rtcp),
    ],
    "payload": [
        PARAMETER_SET,
        *(bytes(rtp.parse_header(data).payload(data)) for one in RECORDED for data in one.rtp),
    ],
    "sdp": [
        *(path.read_bytes() for path in sorted(GOLDEN.glob("*.sdp"))),
        *(one.offer.encode() for one in RECORDED),
    ],
    "candidate": [b"1 1 UDP 2130706431 192.0.2.2 50000 typ host", b"2 1 tcp 9 ::1 9 typ host tcptype active"],
    "pem": [certificate("a").to_pem()],
    "frames": [frame(client_hello()) + frame(nomination("us:them", b"password"))],
    "units": [annexb.START_CODE.join((b"", b"\x09\xf0", PARAMETER_SET, b"\x06\x01\x01\x10"))],
    "item": [pack_header(Item(Kind.VIDEO, b"picture", 90_000, 1.5e9, True))],
}

#: name -> what reads it, what it may raise, and which genuine messages are its own
PARSERS: dict[str, tuple[Callable[[bytes], Any], tuple[type[Exception], ...], str]] = {
    "stun": (verify, (ParseError, IntegrityError), "stun"),
    "stun precedent": (follow, (IntegrityError,), "stun"),
    "stun user name": (stun.username, (), "stun"),
    "stun transaction": (stun.transaction, (), "stun"),
    "worker of": (worker_of, (), "stun"),
    "demux": (look_up, (), "stun"),
    "framing": (lambda data: Deframer().feed(data), (), "frames"),
    "dtls records": (dtls._of_a_handshake, (), "dtls"),
    "dtls server": (
        lambda data: DtlsEndpoint(certificate("a"), "server", ()).receive(data, 0.0),
        (DtlsError,),
        "dtls",
    ),
    "rtp": (extensions, (ParseError,), "rtp"),
    "run": (a_run, (), "run"),
    "rtx": (lambda data: rtp.restore_rtx(data, payload_type=1, ssrc=1), (ParseError,), "rtp"),
    "rtcp": (rtcp.parse_compound, (ParseError,), "rtcp"),
    "srtp": (inbound, (SrtpError,), "rtp"),
    "publisher's packets": (lambda data: Published().rtp(data), (), "rtp"),
    "everybody's reports": (lambda data: Published().rtcp(data), (ParseError,), "rtcp"),
    "h264 types": (h264.nal_types, (), "payload"),
    "h264 key frame": (h264.is_keyframe_start, (), "payload"),
    "h264 parameters": (h264.sps_of, (), "payload"),
    "h264 size": (h264.resolution, (ParseError,), "payload"),
    "vp8 descriptor": (vp8.descriptor_size, (), "payload"),
    "vp8 key frame": (vp8.is_keyframe_start, (), "payload"),
    "vp8 size header": (vp8.size_header_of, (), "payload"),
    "vp8 size": (vp8.resolution, (ParseError,), "payload"),
    "sdp offer": (sdp.parse_offer, (NegotiationError,), "sdp"),
    "sdp answer": (lambda data: sdp.accept_answer(sdp.parse_answer(data)), (NegotiationError,), "sdp"),
    "sdp fragment": (sdp.parse_fragment, (NegotiationError,), "sdp"),
    "sdp answered": (answered, (NegotiationError,), "sdp"),
    "candidate": (lambda data: description.parse_candidate(data.decode(errors="replace")), (), "candidate"),
    "codec": (lambda data: video_codec(data.decode(errors="replace")), (), "candidate"),
    "pem": (Certificate.from_pem, (ParseError,), "pem"),
    "annex b": (units, (), "units"),
    "encoder's items": (lambda data: unpack_header(data[:22].ljust(22, b"\0")), (PipeError,), "item"),
}


def poke(name: str, data: bytes) -> None:
    parse, errors, _ = PARSERS[name]
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
@given(data=st.data())
def test_bent_messages(name: str, data: st.DataObject) -> None:
    """Mostly of its own kind: nothing else gets deep into a parser."""
    own = GENUINE[PARSERS[name][2]]
    kinds = st.sampled_from(list(GENUINE)).map(lambda kind: GENUINE[kind][0])
    bent = bytearray(data.draw(st.one_of(st.sampled_from(own), st.sampled_from(own), kinds)))
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


#: What in media/core takes bytes, or text, that may be of others, and the row that reads it by that.
READ_BY = {
    "certificate.Certificate.from_pem": "pem",
    "description.parse": "sdp offer",
    "description.parse_fragment": "sdp fragment",
    "description.parse_candidate": "candidate",
    "codecs.video_codec": "codec",
    "dtls.DtlsEndpoint.receive": "dtls server",
    "framing.Deframer.feed": "framing",
    "h264.is_keyframe_start": "h264 key frame",
    "h264.nal_types": "h264 types",
    "h264.resolution": "h264 size",
    "h264.sps_of": "h264 parameters",
    "openssl.Connection.take": "dtls server",
    "rtcp.parse_compound": "rtcp",
    "runs.parse_run": "run",
    "rtp.RtpHeader.payload": "rtp",
    "rtp.extensions": "rtp",
    "rtp.is_rtcp": "rtp",
    "rtp.parse_header": "rtp",
    "rtp.restore_rtx": "rtx",
    "rtp.strip_extensions": "rtp",
    "sdp.parse_answer": "sdp answer",
    "sdp.parse_fragment": "sdp fragment",
    "sdp.parse_offer": "sdp offer",
    "srtp.InboundSrtp.unprotect": "srtp",
    "srtp.InboundSrtp.unprotect_rtcp": "srtp",
    "srtp.InboundSrtp.unprotect_run": "srtp",
    "stun.Message.parse": "stun",
    "stun.Precedent.answer": "stun precedent",
    "stun.is_stun": "stun",
    "stun.transaction": "stun transaction",
    "stun.username": "stun user name",
    "vp8.descriptor_size": "vp8 descriptor",
    "vp8.is_keyframe_start": "vp8 key frame",
    "vp8.resolution": "vp8 size",
    "vp8.size_header_of": "vp8 size header",
}
#: These too, and test_a_session_in_any_state_takes_anything is theirs.
OF_A_SESSION = {
    *("ice.IceAgent.receive", "ice.IceAgent.again", "ice.IceLite.again"),
    *("session.Session.receive", "session.Session.receive_check", "session.Session.receive_media"),
    *("session.Session.receive_run", "session.Session.receive_stray"),
}
#: What these take is our own.
OURS = {
    *("framing.frame", "rtp.build_rtx", "rtp.pad", "stun.Message.to_bytes", "stun.Message.verify"),
    *("sdp.restart_fragment", "srtp.OutboundSrtp.protect", "srtp.OutboundSrtp.protect_rtcp"),
    *("openssl.Connection.export", "stun.success"),
}


def takers() -> Iterator[str]:
    """Every public function and method of media/core whose first argument is bytes or text."""
    for found in pkgutil.iter_modules(media.core.__path__):
        module = importlib.import_module(f"media.core.{found.name}")
        own = [it for it in vars(module).values() if getattr(it, "__module__", "") == module.__name__]
        functions = [(it.__name__, it) for it in own if inspect.isfunction(it)]
        for kind in filter(inspect.isclass, own):
            methods = [(name, getattr(it, "__func__", it)) for name, it in vars(kind).items()]
            functions += [(f"{kind.__name__}.{name}", it) for name, it in methods if inspect.isfunction(it)]
        for name, function in functions:
            arguments = [it for it in inspect.signature(function).parameters if it not in ("self", "cls")]
            first = str(inspect.get_annotations(function).get(arguments[0])) if arguments else ""
            if re.search(r"^<class '(bytes|str|memoryview)'>|^(bytes|str) \|", first) and not re.search(
                r"(^|\.)_", name
            ):
                yield f"{found.name}.{name}"


def test_whoever_adds_a_parser_to_the_core_adds_it_here() -> None:
    assert set(takers()) == set(READ_BY) | OF_A_SESSION | OURS
    assert set(READ_BY.values()) <= set(PARSERS)


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
                pair.origin.session.receive_check(first + datagram, source, pair.network.now)
                pair.origin.session.receive(first + datagram, source, pair.network.now)
                pair.origin.session.receive_media(first + datagram, source, pair.network.now)
                twice = memoryview(bytearray(2 * (first + datagram)))
                pair.origin.session.receive_run(twice, len(twice) // 2, source, pair.network.now)
    pair.network.drain(pair.origin)
    pair.network.run_for(1)


def test_a_key_of_a_kind_that_nobody_knows_is_no_certificate_of_ours() -> None:
    label = b"-----BEGIN PRIVATE KEY-----\n"
    lines = certificate("a").to_pem().removeprefix(label).partition(b"-----END")
    key = base64.b64decode(lines[0])
    assert key.count(ELLIPTIC_CURVE) == 1
    other = base64.encodebytes(key.replace(ELLIPTIC_CURVE, bytes(len(ELLIPTIC_CURVE))))
    with pytest.raises(ParseError, match="PEM"):
        Certificate.from_pem(label + other + lines[1] + lines[2])


@pytest.mark.parametrize("name", ["sdp offer", "sdp answer", "sdp fragment"])
def test_a_megabyte_of_sdp_is_refused_before_it_is_read(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is in it: not a line of it is looked at."""
    parse, *_ = PARSERS[name]
    read: list[int] = []
    monkeypatch.setattr("media.core.description._Draft.attribute", lambda *_: read.append(1))
    for huge in (b"v=0\r\n" + b"a=x\r\n" * 200_000, b"\xff" * 1_000_000, b"v=0\r\n" + b"m" * 1_000_000):
        with pytest.raises(NegotiationError) as refused:
            parse(huge)
        assert refused.value.status == 413
    assert read == []
