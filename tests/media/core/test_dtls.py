"""The pieces of the DTLS endpoint that are ours: how records are packed, and how a certificate is known."""

import itertools
import sys

import pytest
from cryptography.hazmat.primitives import hashes
from hypothesis import given
from hypothesis import strategies as st
from OpenSSL import crypto

from media.core import dtls
from media.core.description import Fingerprint
from media.core.dtls import DtlsEndpoint
from media.core.errors import DtlsError
from media.core.openssl import Expected
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
    theirs = crypto.X509.from_cryptography(shown)._x509
    for name, algorithm in (
        ("sha-256", hashes.SHA256()),
        ("sha-384", hashes.SHA384()),
        ("sha-512", hashes.SHA512()),
    ):
        value = shown.fingerprint(algorithm).hex(":").upper()
        known = Fingerprint(name, value)
        assert Expected([Fingerprint("sha-1", value), known]).match(theirs) is known
        for other in (
            value.lower(),
            value.replace(":", ""),
            value[:-2] + ("01" if value.endswith("00") else "00"),
            value + ":00",
            "",
        ):
            assert Expected([Fingerprint(name, other)]).match(theirs) is None


def sides() -> tuple[DtlsEndpoint, DtlsEndpoint]:
    """A client and a server, each expecting the other."""

    def expected(name: str) -> list[Fingerprint]:
        return [Fingerprint("sha-256", certificate(name).fingerprint)]

    client = DtlsEndpoint(certificate("edge"), "client", expected("origin"))
    return client, DtlsEndpoint(certificate("origin"), "server", expected("edge"))


def last_flight(client: DtlsEndpoint, server: DtlsEndpoint) -> list[bytes]:
    """The client's, which ends the handshake for the server."""
    client.start(0.0)
    for datagram in client.outgoing():
        server.receive(datagram, 0.0)
    for datagram in server.outgoing():
        client.receive(datagram, 0.0)
    return client.outgoing()


def test_both_sides_come_to_the_same_keys_and_a_server_lets_go() -> None:
    client, server = sides()
    for datagram in last_flight(client, server):
        server.receive(datagram, 0.0)
    for datagram in server.outgoing():
        client.receive(datagram, 0.0)
    assert client.keys is not None
    assert server.keys is not None
    assert (client.keys.local_key, client.keys.remote_salt) == (
        server.keys.remote_key,
        server.keys.local_salt,
    )
    assert (client.matched, server.matched) == (
        *client._expected.fingerprints,
        *server._expected.fingerprints,
    )
    assert client.kept
    assert not server.kept


def test_a_client_hears_a_good_bye_that_comes_with_the_last_flight() -> None:
    client, server = sides()
    for datagram in last_flight(client, server):
        server.receive(datagram, 0.0)
    (flight,) = server.outgoing()
    server.close()
    client.receive(b"".join([flight, *server.outgoing()]), 0.0)
    assert client.keys is not None
    assert client.closed


def test_a_certificate_that_cannot_be_looked_at_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault of our own, in the middle of OpenSSL's handshake, lets nobody in."""
    client, server = sides()
    flight = b"".join(last_flight(client, server))
    monkeypatch.setattr(Expected, "match", lambda *_: 1 / 0)
    told: list[BaseException | None] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda it: told.append(it.exc_value))
    with pytest.raises(DtlsError):
        server.receive(flight, 0.0)
    assert server.keys is None
    assert [type(error) for error in told] == [ZeroDivisionError]
