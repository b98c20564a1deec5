"""DTLS 1.2 (RFC 6347) with use_srtp (RFC 5764), by OpenSSL over memory buffers.

Theory of operation. OpenSSL runs the handshake (openssl.py); we carry its records. Two things are ours:

*Datagrams.* A memory BIO is a stream, so the records OpenSSL wrote are told apart by their headers and packed
into datagrams of at most MTU bytes.

*Resending.* OpenSSL's DTLS timer reads the real clock and waits at least a second. So the last flight is kept
as it was sent and sent again, byte for byte, when `handle_timeout(now)` says so: after 0.15 s, then after
twice as long each time, up to 1 s. The peer drops the records it had already (replay window) and takes those
it lacked. Both sides do so, so a lost answer is resent by whoever owns it; the last flight of all (the
server's) has no timer: it is resent when handshake records still come in after we are done.

The peer's certificate must match a fingerprint from its SDP, checked inside the handshake and again before
keys are exported. No cookie exchange: ICE has validated the address before a record is looked at, and says
how much may be sent there (ice.py).

*What a handshake may cost.* OpenSSL sets aside what a fragment says its message is long, up to 100 kB, for
ten messages ahead: a few small datagrams held a megabyte. So nothing is handed to it that no handshake has:
other records, messages longer than MAX_MESSAGE, and more than MAX_HANDSHAKE bytes in all. Its connection is
only made when the peer's first record is here, so that a session nobody comes to costs none of it.

*Letting go.* Once its keys are exported a server gives OpenSSL's connection back: it holds 73 to 86 kB, more
than all the rest of a viewer. What is still needed of it is made before: the close_notify that we shall say
one day, and the last flight, kept until `heard` says that the peer has its keys. What is lost: the peer's
records can no longer be read, so a close_notify of its cannot be told from a forged one. `parting` says that
there was an alert; whoever owns us asks whether the peer is still there. Nor can it be told whether the last
flight is truly asked for again: what asks must be half as long as what it gets, and is heard 20 times a
second. A client (there is one a relay) keeps its connection and believes what authenticates.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Final, Literal, NoReturn

from OpenSSL import SSL

from media.core.certificate import Certificate
from media.core.description import Fingerprint
from media.core.errors import DtlsError
from media.core.openssl import HASHES, Connection, Expected, verify_by_fingerprint
from media.core.srtp import PROFILES, SrtpKeys

Role = Literal["server", "client"]

MTU: Final = 1200  # bytes of UDP payload; fits every path that WebRTC works on
FIRST_RESEND: Final = 0.15
MAX_RESEND: Final = 1.0
MAX_MESSAGE: Final = 8192  # bytes of one handshake message: a certificate chain is the longest
MAX_HANDSHAKE: Final = 65536  # bytes of datagrams of the peer, those that are sent again among them
_RESEND_ON_DEMAND: Final = 0.05  # at least this long between two resends of the last flight
_CIPHERS: Final = (
    b"ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256"
    b":ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384"
    b":ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"
    b":ECDHE-ECDSA-AES128-SHA:ECDHE-RSA-AES128-SHA"
)
_DTLS_1_2: Final = 0xFEFD  # OpenSSL's DTLS1_2_VERSION, which pyOpenSSL does not name
_CHANGE_CIPHER_SPEC, _ALERT, _HANDSHAKE = 20, 21, 22  # RFC 5246 section 6.2.1: types of records


def usable(fingerprints: Sequence[Fingerprint]) -> bool:
    """Whether any fingerprint uses a hash we accept (SHA-1 and MD5 are not)."""
    return any(item.algorithm in HASHES for item in fingerprints)


@lru_cache(maxsize=8)
def _context(certificate: Certificate) -> SSL.Context:
    """One OpenSSL context a certificate: making it costs more than a connection does."""
    context = SSL.Context(SSL.DTLS_METHOD)
    context.set_min_proto_version(_DTLS_1_2)
    context.set_max_proto_version(_DTLS_1_2)
    context.set_options(SSL.OP_NO_TICKET | SSL.OP_NO_QUERY_MTU | SSL.OP_NO_RENEGOTIATION)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    verify_by_fingerprint(context)
    context.use_certificate(certificate.x509)
    context.use_privatekey(certificate.key)
    context.set_cipher_list(_CIPHERS)
    context.set_tlsext_use_srtp(":".join(profile.name for profile in PROFILES).encode())
    return context


class DtlsEndpoint:
    """One side of one DTLS association.

    `start` (client), `receive` and `handle_timeout` may raise DtlsError: the association is over, but what
    `outgoing()` gives (an alert) should still be sent.
    """

    def __init__(
        self, certificate: Certificate, role: Role, remote_fingerprints: Sequence[Fingerprint]
    ) -> None:
        self.role = role
        self.keys: SrtpKeys | None = None  # set when the handshake is done
        self.closed = False  # one of us said close_notify, or it failed
        self.matched: Fingerprint | None = None  # of the peer's SDP, by which its certificate was known
        self.parting = False  # as a server: the peer has sent an alert, close_notify most likely
        self._certificate = certificate
        self._expected = Expected(remote_fingerprints)
        self._connection: Connection | None = None
        self._taken = 0  # bytes of datagrams, until the handshake is done
        self._outgoing: list[bytes] = []
        self._flight: list[bytes] = []
        self._goodbye: list[bytes] = []
        self._resend_at: float | None = None
        self._resend_after = FIRST_RESEND
        self._resent_last = float("-inf")

    @property
    def done(self) -> bool:
        return self.keys is not None

    @property
    def mismatched(self) -> bool:
        """Whether the peer showed a certificate that none of its fingerprints is of."""
        return self._expected.mismatch

    @property
    def kept(self) -> bool:
        """Whether OpenSSL's connection is held: see the module's docstring."""
        return self._connection is not None

    def start(self, now: float) -> None:
        """Send the first flight (the client's part; a server waits)."""
        if self.role == "client":
            self._advance(now)

    def receive(self, datagram: bytes, now: float) -> None:
        """Take one datagram of DTLS records."""
        if self.closed or not datagram:
            return
        if self.keys is None:
            self._taken += len(datagram)
            if self._taken > MAX_HANDSHAKE:
                self._fail("its handshake is longer than any")
            records = _of_a_handshake(datagram)
            if records:
                self._ssl.take(records)
                self._advance(now)
        elif self.role == "client":
            self._ssl.take(datagram)
            self._read()
        elif datagram[0] == _ALERT:
            self.parting = True
        elif self._is_asked_again(datagram) and now - self._resent_last >= _RESEND_ON_DEMAND:
            self._resent_last = now
            self._outgoing += self._flight

    def heard(self) -> None:
        """The peer has sent something that its keys authenticate: it has our last flight."""
        self._flight = []

    def outgoing(self) -> list[bytes]:
        """Datagrams to send now, in order; each is given once."""
        datagrams, self._outgoing = self._outgoing, []
        return datagrams

    def next_timeout(self) -> float | None:
        return self._resend_at

    def handle_timeout(self, now: float) -> None:
        if self._resend_at is None or now < self._resend_at:
            return
        self._outgoing += self._flight
        self._resend_after = min(2 * self._resend_after, MAX_RESEND)
        self._resend_at = now + self._resend_after

    def close(self) -> None:
        """Say close_notify, if the handshake was done; the datagram is in `outgoing()`."""
        if self.closed:
            return
        self.closed = True
        self._resend_at = None
        if self.role == "client" and self.keys is not None:
            self._outgoing += self._say_goodbye()
        else:
            self._outgoing += self._goodbye

    @property
    def _ssl(self) -> Connection:
        """OpenSSL's connection, made when it is first needed."""
        connection = self._connection
        if connection is None:
            context, server = _context(self._certificate), self.role == "server"
            connection = self._connection = Connection(context, self._expected, MTU, server=server)
        return connection

    def _is_asked_again(self, datagram: bytes) -> bool:
        """Whether the peer seems to lack our last flight: its Finished, the one encrypted message, is back.

        A ClientHello is none: it is for another association, of whoever had the address before or will have
        it next, whose handshake our Finished would end. As it may be forged, it is answered by little more.
        """
        finished = any(kind == _HANDSHAKE and epoch for kind, epoch, _, _ in _records(datagram))
        return finished and 2 * len(datagram) >= sum(map(len, self._flight))

    def _advance(self, now: float) -> None:
        try:
            done = self._ssl.shake()
        except SSL.Error as error:
            self._fail(_reason(error))
        self._keep_flight(now)
        if not done:
            return
        self._resend_at = None
        self.keys = self._export()
        if self.role == "client":
            self._read()  # what came behind the last flight, in the same datagram
        else:  # its peer waits for our last flight, and says nothing behind its own
            self._goodbye = self._say_goodbye()
            self._connection = None

    def _read(self) -> None:
        """After the handshake only alerts matter; application data is dropped."""
        try:
            self.closed |= self._ssl.read()
        except SSL.Error as error:
            self._fail(_reason(error))
        self._outgoing += self._drain()

    def _say_goodbye(self) -> list[bytes]:
        self._ssl.say_goodbye()
        return self._drain()

    def _keep_flight(self, now: float) -> None:
        produced = self._drain()
        if produced:
            self._flight = produced
            self._outgoing += produced
            self._resend_after = FIRST_RESEND
            self._resend_at = now + FIRST_RESEND

    def _drain(self) -> list[bytes]:
        """What OpenSSL wrote, whole records packed into datagrams."""
        written = b"" if self._connection is None else self._connection.give()
        return _packed(written) if written else []

    def _fail(self, reason: str) -> NoReturn:
        self.closed = True
        self._resend_at = None
        self._outgoing += self._drain()
        self._connection = None
        if self._expected.mismatch:
            reason = "the peer's certificate does not match the fingerprint in its SDP"
        raise DtlsError(f"DTLS failed: {reason}")

    def _export(self) -> SrtpKeys:
        self.matched = self._ssl.peer()
        if self.matched is None:
            self._expected.mismatch = True
            self._fail("")
        chosen = self._ssl.srtp_profile()
        profile = next((item for item in PROFILES if item.name == chosen), None)
        if profile is None:
            self._fail("no SRTP protection profile in common")
        key, salt = profile.key_length, profile.salt_length
        material = self._ssl.export(b"EXTRACTOR-dtls_srtp", 2 * (key + salt))
        client_key, server_key = material[:key], material[key : 2 * key]
        client_salt, server_salt = material[2 * key : 2 * key + salt], material[2 * key + salt :]
        if self.role == "client":
            return SrtpKeys(profile, client_key, client_salt, server_key, server_salt)
        return SrtpKeys(profile, server_key, server_salt, client_key, client_salt)


def _packed(stream: bytes) -> list[bytes]:
    """Records one after another as datagrams of at most MTU bytes, or of one record that is longer."""
    if len(stream) <= MTU:
        return [stream]
    datagrams: list[bytes] = []
    begin = 0
    for _, _, start, end in _records(stream):
        if end - begin > MTU and start > begin:
            datagrams.append(stream[begin:start])
            begin = start
    datagrams.append(stream[begin:])
    return datagrams


def _records(datagram: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Type, epoch, start and end of each whole record (RFC 6347 section 4.1)."""
    at, end = 0, len(datagram)
    while at + 13 <= end:
        following = at + 13 + int.from_bytes(datagram[at + 11 : at + 13], "big")
        if following > end:
            return
        yield datagram[at], int.from_bytes(datagram[at + 3 : at + 5], "big"), at, following
        at = following


def _of_a_handshake(datagram: bytes) -> bytes:
    """The records of a datagram that a handshake may have; mostly all of it, as it is."""
    kept: list[bytes] = []
    size = 0
    for kind, epoch, start, end in _records(datagram):
        if kind in (_CHANGE_CIPHER_SPEC, _ALERT) or (
            kind == _HANDSHAKE and (epoch or _messages_fit(datagram, start + 13, end))
        ):
            kept.append(datagram[start:end])
            size += end - start
    return datagram if size == len(datagram) else b"".join(kept)


def _messages_fit(datagram: bytes, at: int, end: int) -> bool:
    """Whether the messages of a record in clear, or that it has parts of, are none too long."""
    while at + 12 <= end:
        if int.from_bytes(datagram[at + 1 : at + 4], "big") > MAX_MESSAGE:
            return False
        at += 12 + int.from_bytes(datagram[at + 9 : at + 12], "big")
    return True


def _reason(error: SSL.Error) -> str:
    """OpenSSL's own words, the last of its error stack."""
    stack = error.args[0] if error.args else None
    if isinstance(stack, list) and stack:
        return str(stack[-1][-1])
    return type(error).__name__
