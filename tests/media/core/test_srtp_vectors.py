"""SRTP and SRTCP against the published vectors, by a second implementation that stands on them.

The vectors of RFC 3711 and RFC 7714 are of parts (the key derivation, the keystream, the AEAD step); ours can
only be asked for the whole. So the parts are written down here once more, held against the vectors, and what
they come to is held against what we send, byte by byte. libsrtp is not asked.
"""

import hmac

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from media.core import rtcp, rtp, srtp
from media.core.srtp import InboundSrtp, OutboundSrtp, Profile, SrtpKeys

RTP_LABELS, RTCP_LABELS = (0, 1, 2), (3, 4, 5)  # of the cipher's key, the authentication key, the salt


def keystream(key: bytes, counter: int, size: int) -> bytes:
    """AES in counter mode; `counter` is the first block."""
    encryptor = Cipher(algorithms.AES(key), modes.CTR(counter.to_bytes(16, "big"))).encryptor()
    return encryptor.update(bytes(size))


def derived(master_key: bytes, master_salt: bytes, label: int, size: int) -> bytes:
    """A session key (RFC 3711 section 4.3.1, its rate 0), also of a short salt (RFC 7714 section 11)."""
    salt = int.from_bytes(master_salt.ljust(14, b"\0"), "big")
    return keystream(master_key, (salt ^ label << 48) << 16, size)


def counter_mode(key: bytes, salt: bytes, ssrc: int, index: int, plain: bytes) -> bytes:
    """RFC 3711 section 4.1.1."""
    first = int.from_bytes(salt, "big") << 16 ^ ssrc << 64 ^ index << 16
    stream = keystream(key, first, len(plain))
    return bytes(a ^ b for a, b in zip(plain, stream, strict=True))


def sealed(key: bytes, salt: bytes, ssrc: int, index: int, plain: bytes, beside: bytes) -> bytes:
    """RFC 7714 sections 8.1 and 9.1: the ciphertext and its tag."""
    nonce = int.from_bytes(salt, "big") ^ ssrc << 48 ^ index
    return AESGCM(key).encrypt(nonce.to_bytes(12, "big"), plain, beside)


def test_the_key_derivation_of_rfc_3711_appendix_b_3() -> None:
    key = bytes.fromhex("e1f97a0d3e018be0d64fa32c06de4139")
    salt = bytes.fromhex("0ec675ad498afeebb6960b3aabe6")
    assert derived(key, salt, 0, 16).hex() == "c61e7a93744f39ee10734afe3ff7a087"
    assert derived(key, salt, 1, 20).hex() == "cebe321f6ff7716b6fd4ab49af256a156d38baa4"
    assert derived(key, salt, 2, 14).hex() == "30cbbc08863d8c85d49db34a9ae1"


def test_the_keystream_of_rfc_3711_appendix_b_2() -> None:
    key = bytes.fromhex("2b7e151628aed2a6abf7158809cf4f3c")
    salt = bytes.fromhex("f0f1f2f3f4f5f6f7f8f9fafbfcfd")
    assert counter_mode(key, salt, 0, 0, bytes(48)).hex() == (
        "e03ead0935c95e80e166b16dd92b4eb4d23513162b02d0f72a43a2fe4a5f97ab41e95b3bb0a2e8dd477901e4fca894c0"
    )


def test_the_packet_of_rfc_7714_section_16_1_1() -> None:
    header = bytes.fromhex("8040f17b8041f8d35501a0b2")
    plain = b"Gallia est omnis divisa in partes tres"
    packet = sealed(bytes(range(16)), b"Quid pro quo", 0x5501A0B2, 0xF17B, plain, header)
    assert packet.hex() == (
        "f24de3a3fb34de6cacba861c9d7e4bcabe633bd50d294e6f42a5f47a51c7d19b36de3adf8833899d7f27beb16a9152cf765ee439"
        "0cce"
    )


def keys(profile: Profile) -> tuple[SrtpKeys, bytes, bytes]:
    """Those of one who sends, and the master key and salt among them that it sends with."""
    key = bytes.fromhex("e1f97a0d3e018be0d64fa32c06de4139")
    salt = bytes.fromhex("0ec675ad498afeebb6960b3aabe6")[: profile.salt_length]
    return SrtpKeys(profile, key, salt, key[::-1], salt[::-1]), key, salt


def as_published(profile: Profile, master: bytes, master_salt: bytes, packet: bytes, rollover: int) -> bytes:
    """What an RTP packet is protected into."""
    cipher, authentication, salting = RTP_LABELS
    key = derived(master, master_salt, cipher, 16)
    salt = derived(master, master_salt, salting, profile.salt_length)
    header, ssrc = packet[:12], int.from_bytes(packet[8:12], "big")
    index = rollover << 16 | int.from_bytes(packet[2:4], "big")
    if profile is srtp.AEAD_AES_128_GCM:
        return header + sealed(key, salt, ssrc, index, packet[12:], header)
    hidden = header + counter_mode(key, salt, ssrc, index, packet[12:])
    signing = derived(master, master_salt, authentication, 20)
    return hidden + hmac.digest(signing, hidden + rollover.to_bytes(4, "big"), "sha1")[:10]


def as_published_rtcp(
    profile: Profile, master: bytes, master_salt: bytes, compound: bytes, index: int
) -> bytes:
    """What an RTCP compound is protected into (RFC 3711 section 3.4, RFC 7714 section 9)."""
    cipher, authentication, salting = RTCP_LABELS
    key = derived(master, master_salt, cipher, 16)
    salt = derived(master, master_salt, salting, profile.salt_length)
    header, ssrc = compound[:8], int.from_bytes(compound[4:8], "big")
    trailer = (1 << 31 | index).to_bytes(4, "big")
    if profile is srtp.AEAD_AES_128_GCM:
        return header + sealed(key, salt, ssrc, index, compound[8:], header + trailer) + trailer
    hidden = header + counter_mode(key, salt, ssrc, index, compound[8:]) + trailer
    signing = derived(master, master_salt, authentication, 20)
    return hidden + hmac.digest(signing, hidden, "sha1")[:10]


@pytest.mark.parametrize("profile", srtp.PROFILES, ids=lambda profile: profile.name)
def test_what_we_send_is_what_the_standards_say(profile: Profile) -> None:
    ours, master, salt = keys(profile)
    outbound = OutboundSrtp(ours)
    for sequence, rollover in ((65534, 0), (65535, 0), (0, 1), (1, 1)):
        packet = rtp.build(
            payload_type=96, sequence=sequence, timestamp=7, ssrc=0xDEADBEEF, payload=b"a picture" * 40
        )
        assert outbound.protect(packet) == as_published(profile, master, salt, packet, rollover)
    compound = rtcp.build_compound([rtcp.ReceiverReport(0xDEADBEEF), rtcp.Pli(0xDEADBEEF, 7)])
    for index in (1, 2):
        protected = outbound.protect_rtcp(compound)
        assert protected == as_published_rtcp(profile, master, salt, compound, index)


@pytest.mark.parametrize("profile", srtp.PROFILES, ids=lambda profile: profile.name)
def test_what_the_standards_say_is_read(profile: Profile) -> None:
    ours, master, salt = keys(profile)
    inbound = InboundSrtp(
        SrtpKeys(profile, ours.remote_key, ours.remote_salt, ours.local_key, ours.local_salt)
    )
    packet = rtp.build(payload_type=96, sequence=9, timestamp=7, ssrc=5, payload=b"a picture")
    assert inbound.unprotect(as_published(profile, master, salt, packet, 0)) == packet
    compound = rtcp.build_compound([rtcp.ReceiverReport(5), rtcp.Pli(5, 7)])
    assert inbound.unprotect_rtcp(as_published_rtcp(profile, master, salt, compound, 3)) == compound
