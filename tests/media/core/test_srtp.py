"""SRTP in place, against pylibsrtp's own Session as an independent caller of the same library."""

import pylibsrtp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.core import rtcp, rtp, srtp
from media.core.errors import SrtpError
from media.core.srtp import InboundSrtp, OutboundSrtp, SrtpKeys

PROFILES = list(srtp.PROFILES)


def keys(profile: srtp.Profile) -> tuple[SrtpKeys, SrtpKeys]:
    key, salt = bytes(range(profile.key_length)), bytes(range(100, 100 + profile.salt_length))
    other_key, other_salt = key[::-1], salt[::-1]
    return (
        SrtpKeys(profile, key, salt, other_key, other_salt),
        SrtpKeys(profile, other_key, other_salt, key, salt),
    )


def packet(sequence: int, payload: bytes = b"payload", ssrc: int = 7) -> bytes:
    return rtp.build(payload_type=96, sequence=sequence, timestamp=1, ssrc=ssrc, payload=payload)


def reference(profile: srtp.Profile, key: bytes, direction: int) -> pylibsrtp.Session:
    return pylibsrtp.Session(pylibsrtp.Policy(key=key, ssrc_type=direction, srtp_profile=profile.libsrtp))


@pytest.fixture(params=PROFILES, ids=lambda profile: profile.name)
def profile(request: pytest.FixtureRequest) -> srtp.Profile:
    chosen: srtp.Profile = request.param
    return chosen


def test_pylibsrtp_reads_what_we_protect_in_place(profile: srtp.Profile) -> None:
    ours, _ = keys(profile)
    outbound = OutboundSrtp(ours)
    theirs = reference(profile, ours.local_key + ours.local_salt, pylibsrtp.Policy.SSRC_ANY_INBOUND)
    buffer = srtp.new_buffer(4096)
    data = srtp.view(buffer)
    at = 0
    spans = []
    for sequence in range(3):  # three packets one after the other, as a frame batch lies in memory
        plain = packet(sequence, bytes([sequence]) * 500)
        data[at : at + len(plain)] = plain
        length = outbound.protect_into(buffer, at, len(plain))
        assert length == len(plain) + outbound.tag_length == len(plain) + profile.tag_length
        spans.append((at, length, plain))
        at += length
    for start, length, plain in spans:
        assert theirs.unprotect(bytes(data[start : start + length])) == plain


def test_a_batch_is_protected_as_its_packets_would_be(profile: srtp.Profile) -> None:
    ours, _ = keys(profile)
    single, batch = OutboundSrtp(ours), OutboundSrtp(ours)
    buffer = srtp.new_buffer(4096)
    data = srtp.view(buffer)
    plain = [packet(sequence, bytes(300 + sequence)) for sequence in range(5)]
    places, at = [], 0
    for item in plain:
        data[at : at + len(item)] = item
        places.append((buffer + at, len(item)))
        at += len(item) + batch.tag_length
    batch.protect_all(places)
    assert bytes(data[:at]) == b"".join(single.protect(item) for item in plain)
    with pytest.raises(SrtpError):
        batch.protect_all(places)  # the same sequence numbers again


def test_we_read_what_pylibsrtp_protects(profile: srtp.Profile) -> None:
    ours, _ = keys(profile)
    inbound = InboundSrtp(ours)
    theirs = reference(profile, ours.remote_key + ours.remote_salt, pylibsrtp.Policy.SSRC_ANY_OUTBOUND)
    assert inbound.unprotect(theirs.protect(packet(1))) == packet(1)
    assert inbound.unprotect(memoryview(theirs.protect(packet(2)))) == packet(2)
    report = rtcp.ReceiverReport(1).to_bytes()
    assert inbound.unprotect_rtcp(theirs.protect_rtcp(report)) == report


def test_protecting_gives_the_same_bytes_as_pylibsrtp(profile: srtp.Profile) -> None:
    ours, _ = keys(profile)
    theirs = reference(profile, ours.local_key + ours.local_salt, pylibsrtp.Policy.SSRC_ANY_OUTBOUND)
    outbound = OutboundSrtp(ours)
    assert outbound.protect(packet(5)) == theirs.protect(packet(5))
    report = rtcp.ReceiverReport(1).to_bytes()
    assert outbound.protect_rtcp(report) == theirs.protect_rtcp(report)


def test_each_packet_counts_once(profile: srtp.Profile) -> None:
    ours, other = keys(profile)
    outbound, inbound = OutboundSrtp(ours), InboundSrtp(other)
    protected = [outbound.protect(packet(sequence)) for sequence in range(100)]
    for data in protected:
        assert inbound.unprotect(data)
        for _ in range(4):
            with pytest.raises(SrtpError) as caught:
                inbound.unprotect(data)
            assert caught.value.code in (SrtpError.REPLAYED, SrtpError.TOO_OLD)


def test_bad_tags_change_nothing(profile: srtp.Profile) -> None:
    ours, other = keys(profile)
    outbound, inbound = OutboundSrtp(ours), InboundSrtp(other)
    for sequence in range(200):
        good = outbound.protect(packet(sequence))
        for _ in range(50):
            with pytest.raises(SrtpError) as caught:
                inbound.unprotect(good[:-1] + bytes((good[-1] ^ 1,)))
            assert caught.value.code == SrtpError.AUTHENTICATION
        assert inbound.unprotect(good) == packet(sequence)


def test_a_burst_may_arrive_in_any_order(profile: srtp.Profile) -> None:
    ours, other = keys(profile)
    outbound, inbound = OutboundSrtp(ours), InboundSrtp(other)
    protected = [outbound.protect(packet(sequence)) for sequence in range(1000)]
    assert [inbound.unprotect(data) for data in reversed(protected)] == [
        packet(sequence) for sequence in reversed(range(1000))
    ]


def test_a_sequence_number_is_not_protected_twice_unless_allowed(profile: srtp.Profile) -> None:
    ours, _ = keys(profile)
    outbound = OutboundSrtp(ours)
    first = outbound.protect(packet(1))
    with pytest.raises(SrtpError):
        outbound.protect(packet(1))
    lenient = OutboundSrtp(ours, allow_repeat=True)
    assert [lenient.protect(packet(1)) for _ in range(2)] == [first, first]


def test_sequence_numbers_wrap(profile: srtp.Profile) -> None:
    ours, other = keys(profile)
    outbound, inbound = OutboundSrtp(ours), InboundSrtp(other)
    for sequence in range(65000, 65536 + 500):
        plain = packet(sequence & 0xFFFF)
        assert inbound.unprotect(outbound.protect(plain)) == plain


def test_keys_of_a_wrong_length_are_refused(profile: srtp.Profile) -> None:
    with pytest.raises(SrtpError):
        OutboundSrtp(SrtpKeys(profile, b"short", b"", b"", b""))


@given(st.binary(max_size=2000), st.sampled_from(PROFILES))
def test_rubbish_raises_nothing_else(data: bytes, profile: srtp.Profile) -> None:
    ours, _ = keys(profile)
    inbound = InboundSrtp(ours)
    outbound = OutboundSrtp(ours)
    for call in (inbound.unprotect, inbound.unprotect_rtcp, outbound.protect, outbound.protect_rtcp):
        for variant in (data, b"\x90\x60" + data, b"\x80\xc8" + data, b"\xbf\xff" + data):
            try:
                call(variant)
            except SrtpError:
                pass


def test_an_oversized_packet_is_refused() -> None:
    ours, _ = keys(srtp.AEAD_AES_128_GCM)
    with pytest.raises(SrtpError):
        InboundSrtp(ours).unprotect(b"\x80" * 70000)


def test_a_peer_may_send_with_so_many_sources_and_no_more(profile: srtp.Profile) -> None:
    ours, theirs = keys(profile)
    outbound, inbound = OutboundSrtp(ours), InboundSrtp(theirs)
    forged = bytearray(outbound.protect(packet(1, ssrc=9999)))
    for ssrc in range(2 * srtp.MAX_SOURCES):  # what does not authenticate takes no place
        forged[8:12] = ssrc.to_bytes(4, "big")
        with pytest.raises(SrtpError):
            inbound.unprotect(bytes(forged))
    for ssrc in range(srtp.MAX_SOURCES):
        assert inbound.unprotect(outbound.protect(packet(1, ssrc=ssrc)))
    with pytest.raises(SrtpError):
        inbound.unprotect(outbound.protect(packet(1, ssrc=srtp.MAX_SOURCES)))
    report = rtcp.ReceiverReport(srtp.MAX_SOURCES).to_bytes()
    with pytest.raises(SrtpError):
        inbound.unprotect_rtcp(outbound.protect_rtcp(report))
    for ssrc in range(srtp.MAX_SOURCES):  # those that have a place keep it
        assert inbound.unprotect(outbound.protect(packet(2, ssrc=ssrc)))
    assert inbound.unprotect_rtcp(outbound.protect_rtcp(rtcp.ReceiverReport(3).to_bytes()))


def test_what_made_a_loss_good_may_be_sent_as_late_as_the_window_is_long(profile: srtp.Profile) -> None:
    ours, theirs = keys(profile)
    outbound, inbound = OutboundSrtp(ours), InboundSrtp(theirs)
    newest = 3 + srtp.WINDOW_OUT - 1
    for sequence in range(1, newest + 1):
        if sequence not in (2, 3):
            inbound.unprotect(outbound.protect(packet(sequence)))
    assert inbound.unprotect(outbound.protect(packet(3))) == packet(3)
    with pytest.raises(SrtpError):
        outbound.protect(packet(2))
