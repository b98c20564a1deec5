"""The self-signed certificate a DTLS endpoint shows (RFC 8827 section 6.5): ECDSA on P-256.

One certificate serves every session of a worker; making one costs far more than a handshake with it.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Self

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from media.core.errors import ParseError

_VALID_FOR = timedelta(days=365)


@dataclass(frozen=True, eq=False)
class Certificate:
    """A private key and its certificate. Compares by identity, so it can key a cache."""

    key: ec.EllipticCurvePrivateKey
    x509: x509.Certificate

    @classmethod
    def generate(cls, now_utc: datetime) -> Self:
        """A new certificate, valid from a day before `now_utc` (clocks differ) for a year."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "showcaller")])
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now_utc - timedelta(days=1))
            .not_valid_after(now_utc + _VALID_FOR)
            .sign(key, hashes.SHA256())
        )
        return cls(key, certificate)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the certificate as SDP writes it: "AB:CD:.."."""
        return self.x509.fingerprint(hashes.SHA256()).hex(":").upper()

    def to_pem(self) -> bytes:
        """Private key (unencrypted PKCS#8) and certificate, one after the other. Keep it secret."""
        private = self.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        return private + self.x509.public_bytes(serialization.Encoding.PEM)

    @classmethod
    def from_pem(cls, pem: bytes) -> Self:
        """The certificate that `to_pem` wrote; raises ParseError."""
        try:
            key = serialization.load_pem_private_key(pem, password=None)
            certificate = x509.load_pem_x509_certificate(pem)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise ParseError(f"not a key and certificate in PEM: {error}") from None
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ParseError("the key in the PEM is not an elliptic curve key")
        return cls(key, certificate)
