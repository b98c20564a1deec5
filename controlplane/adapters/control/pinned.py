"""TLS with one certificate and no other: the one whose SHA-256 is known beforehand.

No authority is asked, no name and no date is looked at: a node makes its own certificate when it starts and
says its fingerprint when it enrols, over a connection that is trusted. OpenSSL proves in the handshake that
who answers has the key; here, before a byte of a request leaves, that the certificate is the pinned one.
"""

import hashlib
import ssl
from typing import Self


class NotPinned(ssl.SSLCertVerificationError):
    """Somebody else answers. Nothing was said to them."""


class _PinnedObject(ssl.SSLObject):
    """What asyncio and uvloop run a handshake with: `SSLContext.sslobject_class` makes them use this one."""

    def do_handshake(self) -> None:
        super().do_handshake()
        context = self.context
        assert isinstance(context, PinnedContext)
        shown = self.getpeercert(binary_form=True)
        if shown is None or hashlib.sha256(shown).hexdigest() != context.pin:
            raise NotPinned(
                ssl.SSL_ERROR_SSL,
                "another certificate answers there than the one it enrolled with; nothing was sent to it",
            )


class PinnedContext(ssl.SSLContext):
    """A client's context that speaks to the holder of one certificate."""

    pin: str

    def __new__(cls, fingerprint: str) -> Self:
        """`fingerprint`: SHA-256 of the certificate, "AB:CD:..".

        Raises ValueError when it is none.
        """
        pin = fingerprint.replace(":", "").lower()
        if len(bytes.fromhex(pin)) != hashlib.sha256().digest_size:
            raise ValueError(f"{fingerprint!r} is not a SHA-256")
        context = super().__new__(cls, ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE  # what is verified instead is in _PinnedObject
        context.sslobject_class = _PinnedObject
        context.pin = pin
        return context
