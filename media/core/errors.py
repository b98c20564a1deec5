"""What can go wrong in the session core, and how a caller reacts.

    MediaError
    ├── ParseError          a peer's bytes or text are malformed: drop them, count them, go on
    ├── IntegrityError      bytes that claim to be from the peer are not: drop in silence
    ├── NegotiationError    an SDP we cannot serve: tell the peer (HTTP status, code, detail)
    ├── DtlsError           the handshake failed for good: the session closes
    └── SrtpError           one packet failed authentication or replay: drop it, count it

Anything else raised by a parser of this package is a bug.
"""


class MediaError(Exception):
    """Base of everything the session core raises on purpose."""


class ParseError(MediaError):
    """Malformed input of a peer."""


class IntegrityError(MediaError):
    """A STUN message whose MESSAGE-INTEGRITY or FINGERPRINT does not check out."""


class NegotiationError(MediaError):
    """An SDP that cannot be served.

    `status` is the HTTP status to answer with (400, 406, 413, 422), `code` a short machine-readable reason
    ("sdp_too_large"), `detail` a sentence that says what to change.
    """

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail


class DtlsError(MediaError):
    """The DTLS handshake failed: wrong certificate, no common SRTP profile, alert, or time-out."""


class SrtpError(MediaError):
    """A packet libsrtp refused. `code` is libsrtp's status (7 authentication, 9 and 10 replay)."""

    AUTHENTICATION = 7
    REPLAYED = 9
    TOO_OLD = 10

    def __init__(self, what: str, code: int = 1) -> None:
        super().__init__(what)
        self.code = code
