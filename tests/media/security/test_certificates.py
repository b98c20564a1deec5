"""Who is spoken with is who the SDP named: by the fingerprint of an ECDSA certificate, both ways."""

import hashlib
import re
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import SSL, crypto
from OpenSSL._util import lib

from media.core import dtls, srtp
from media.core.certificate import Certificate
from media.core.description import Fingerprint
from media.core.openssl import Expected
from tests.media.security.stand import Show, until

WITHIN_S = 1.0


async def test_a_viewer_with_another_certificate_gets_no_media(show: Show) -> None:
    """The offer names one certificate and the handshake shows another, as of who took over its address."""
    viewer = show.peer()
    answer = await viewer.ask(show.worker)
    viewer.certificate = Certificate.generate(datetime.now(UTC))
    viewer.begin(answer)
    await until(lambda: viewer.closed_because, "the viewer is told", WITHIN_S)
    reason = await until(lambda: show.worker.ended(viewer.name), "the worker has ended it", WITHIN_S)
    assert "certificate does not match" in reason
    assert not viewer.ready
    assert viewer.media_datagrams == 0
    assert viewer.rtp == []


async def test_a_viewer_that_finds_another_certificate_leaves(show: Show) -> None:
    viewer = show.peer()
    answer = await viewer.ask(show.worker)
    viewer.begin(answer.replace(show.worker.fingerprint, "AB:" * 31 + "CD"))
    await until(lambda: viewer.closed_because, "the viewer is gone", WITHIN_S)
    assert "certificate does not match" in (viewer.closed_because or "")
    await until(lambda: show.worker.ended(viewer.name), "the worker has heard of it", WITHIN_S)
    assert viewer.media_datagrams == 0


async def test_the_answer_names_the_certificate_of_the_worker_which_is_ecdsa(
    show: Show, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[crypto.X509] = []
    real = Expected.match

    def match(self: Expected, certificate: Any) -> Fingerprint | None:
        lib.X509_up_ref(certificate)
        shown.append(crypto.X509._from_raw_x509_ptr(certificate))
        return real(self, certificate)

    monkeypatch.setattr(Expected, "match", match)
    viewer = show.peer()
    answer = await viewer.ask(show.worker)
    assert set(re.findall(r"a=fingerprint:sha-256 (\S+)", answer)) == {show.worker.fingerprint}
    viewer.begin(answer)
    await until(lambda: viewer.ready, "the viewer is connected")
    for certificate in shown:
        plain = certificate.to_cryptography()
        key = plain.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        assert key.curve.name == "secp256r1"
        der = crypto.dump_certificate(crypto.FILETYPE_ASN1, certificate)
        assert hashlib.sha256(der).hexdigest().upper() == show.worker.fingerprint.replace(":", "")


def only(monkeypatch: pytest.MonkeyPatch, profiles: tuple[srtp.Profile, ...]) -> Certificate:
    """A certificate whose holder offers these SRTP profiles, in this order."""
    monkeypatch.setattr(dtls, "PROFILES", profiles)
    certificate = Certificate.generate(datetime.now(UTC))
    dtls._context(certificate)  # kept by certificate
    monkeypatch.undo()
    return certificate


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        ((srtp.AES128_CM_SHA1_80, srtp.AEAD_AES_128_GCM), srtp.AEAD_AES_128_GCM),
        ((srtp.AES128_CM_SHA1_80,), srtp.AES128_CM_SHA1_80),
        ((srtp.AEAD_AES_128_GCM,), srtp.AEAD_AES_128_GCM),
    ],
    ids=["both", "counter mode only", "GCM only"],
)
async def test_gcm_is_preferred_and_counter_mode_is_the_fallback(
    show: Show,
    monkeypatch: pytest.MonkeyPatch,
    offered: tuple[srtp.Profile, ...],
    chosen: srtp.Profile,
) -> None:
    viewer = show.peer(only(monkeypatch, offered))
    await viewer.join(show.worker)
    assert viewer.session is not None
    assert viewer.session.outbound is not None
    assert viewer.session.outbound.profile is chosen
    await until(lambda: len(viewer.rtp) > 30, "the viewer sees the picture")
    assert await show.nothing_lost(viewer)


async def test_a_viewer_without_a_profile_of_ours_gets_no_media(
    show: Show, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = Certificate.generate(datetime.now(UTC))
    context = dtls._context(certificate)
    context.set_tlsext_use_srtp(b"SRTP_AES128_CM_SHA1_32")  # a tag of four bytes
    viewer = show.peer(certificate)
    viewer.begin(await viewer.ask(show.worker))
    await until(lambda: viewer.closed_because, "the viewer is told", WITHIN_S)
    reason = await until(lambda: show.worker.ended(viewer.name), "the worker has ended it", WITHIN_S)
    assert "no SRTP protection profile in common" in reason
    assert viewer.media_datagrams == 0


def test_dtls_1_0_is_not_spoken() -> None:
    peer = SSL.Context(SSL.DTLS_METHOD)
    peer.set_max_proto_version(0xFEFF)
    peer.set_cipher_list(b"ALL:@SECLEVEL=0")
    client = SSL.Connection(peer, None)
    client.set_connect_state()
    with pytest.raises(SSL.WantReadError):
        client.do_handshake()
    endpoint = dtls.DtlsEndpoint(Certificate.generate(datetime.now(UTC)), "server", ())
    with pytest.raises(dtls.DtlsError, match="unsupported protocol"):
        endpoint.receive(client.bio_read(4096), 0.0)
    assert endpoint.keys is None
