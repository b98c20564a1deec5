"""The pieces of the DTLS endpoint that are ours: how records are packed, and how a certificate is known."""

import itertools

from cryptography.hazmat.primitives import hashes
from hypothesis import given
from hypothesis import strategies as st
from OpenSSL import crypto

from media.core import dtls
from media.core.description import Fingerprint
from tests.media.core.emulated_network import certificate


@given(st.lists(st.integers(0, 1500), min_size=1, max_size=12))
def test_records_of_a_flight_are_packed_whole_and_in_order(lengths: list[int]) -> None:
    records = [
        bytes([22, 0xFE, 0xFD, *number.to_bytes(8, "big"), *length.to_bytes(2, "big")]) + bytes(length)
        for number, length in enumerate(lengths)
    ]
    datagrams = dtls._packed(b"".join(records))
    assert b"".join(datagrams) == b"".join(records)
    for datagram in datagrams:
        assert len(datagram) <= dtls.MTU or datagram in records
    for one, other in itertools.pairwise(datagrams):
        following = 13 + int.from_bytes(other[11:13], "big")
        assert len(one) + following > dtls.MTU, "no datagram has room for what begins the next"


def test_a_certificate_is_known_by_each_hash_and_by_no_other_spelling() -> None:
    shown = certificate("edge").x509
    theirs = crypto.X509.from_cryptography(shown)
    for name, algorithm in (
        ("sha-256", hashes.SHA256()),
        ("sha-384", hashes.SHA384()),
        ("sha-512", hashes.SHA512()),
    ):
        value = shown.fingerprint(algorithm).hex(":").upper()
        known = Fingerprint(name, value)
        assert dtls._Expected([Fingerprint("sha-1", value), known]).match(theirs) is known
        for other in (
            value.lower(),
            value.replace(":", ""),
            value[:-2] + ("01" if value.endswith("00") else "00"),
            value + ":00",
            "",
        ):
            assert dtls._Expected([Fingerprint(name, other)]).match(theirs) is None
