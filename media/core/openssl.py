"""OpenSSL's part of a DTLS association, over memory buffers, by the binding that pyOpenSSL itself is made on.

pyOpenSSL makes the contexts; its Connection is left out. It looks each connection up by its pointer, makes
objects of certificates that only a digest is wanted of, sets buffers aside to read into and raises exceptions
to say that there is no more: cold, a tenth of what a join costs in DTLS (docs/decisions/0024).

As in srtp.py, what is shared by all connections of the process is used up before a call returns: the core is
single-threaded.
"""

from collections.abc import Sequence
from typing import Any, Final

from OpenSSL import SSL
from OpenSSL._util import exception_from_error_queue, ffi, lib

from media.core.description import Fingerprint

#: SDP's name: OpenSSL's hash
HASHES: Final = {
    name: lib.EVP_get_digestbyname(theirs)
    for name, theirs in (("sha-256", b"sha256"), ("sha-384", b"sha384"), ("sha-512", b"sha512"))
}
_ROOM: Final = 65536  # bytes that are read at once
_LONGEST_HASH: Final = 64
_buffer: Final = ffi.new("unsigned char[]", _ROOM)
_buffer_view: Final = ffi.buffer(_buffer)
_digest: Final = ffi.new("unsigned char[]", _LONGEST_HASH)
_size: Final = ffi.new("unsigned int *")
_where: Final = ffi.new("char **")  # what BIO_get_mem_data gives beside the length


class Expected:
    """The fingerprints a peer may have."""

    __slots__ = ("fingerprints", "mismatch", "seen")

    def __init__(self, fingerprints: Sequence[Fingerprint]) -> None:
        self.fingerprints = tuple(fingerprints)
        self.mismatch = False  # the peer has shown a certificate that none of them is of
        self.seen = False  # it has shown one that is

    def match(self, certificate: Any) -> Fingerprint | None:
        """By OpenSSL's own digest (`certificate` is its X509): a stranger's, it is not parsed any further."""
        for expected in self.fingerprints:
            algorithm = HASHES.get(expected.algorithm)
            if algorithm in (None, ffi.NULL) or not lib.X509_digest(certificate, algorithm, _digest, _size):
                continue
            if bytes(ffi.buffer(_digest, _size[0])).hex(":").upper() == expected.value:
                return expected
        return None


#: of the connection whose handshake goes on just now: in the middle of it the peer's certificate is verified
_at_hand: list[Expected] = []


# Should it fail itself, nothing is verified.
@ffi.callback("int (*)(int, X509_STORE_CTX *)", error=0)  # type: ignore[untyped-decorator]
def _verify(good: int, store: Any) -> int:
    """Called at least once for the peer's certificate and for each that it has sent with it."""
    if lib.X509_STORE_CTX_get_error_depth(store) == 0:  # those above the peer's own mean nothing here
        expected = _at_hand[-1]
        if not expected.seen:
            if expected.match(lib.X509_STORE_CTX_get_current_cert(store)) is None:
                expected.mismatch = True
                return 0
            expected.seen = True
    lib.X509_STORE_CTX_set_error(store, lib.X509_V_OK)
    return 1


def verify_by_fingerprint(context: SSL.Context) -> None:
    """Connections of this context demand a certificate of their peer, and take those that are expected."""
    lib.SSL_CTX_set_verify(context._context, SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, _verify)


class Connection:
    """One connection. Methods raise SSL.Error when the association is over."""

    __slots__ = ("_context", "_expected", "_from_ssl", "_into_ssl", "_ssl")

    def __init__(self, context: SSL.Context, expected: Expected, mtu: int, *, server: bool) -> None:
        """`context` has passed `verify_by_fingerprint`; `mtu` in bytes of UDP payload."""
        self._context = context  # to keep it
        self._expected = expected
        ssl = lib.SSL_new(context._context)
        if ssl == ffi.NULL:
            exception_from_error_queue(SSL.Error)
        self._ssl = ffi.gc(ssl, lib.SSL_free)
        self._into_ssl, self._from_ssl = lib.BIO_new(lib.BIO_s_mem()), lib.BIO_new(lib.BIO_s_mem())
        lib.SSL_set_bio(ssl, self._into_ssl, self._from_ssl)  # which owns them from here on
        lib.SSL_set_mtu(ssl, mtu)
        if server:
            lib.SSL_set_accept_state(ssl)
        else:
            lib.SSL_set_connect_state(ssl)

    def take(self, records: bytes) -> None:
        """Records of the peer's, for the next call of `shake` or `read`."""
        lib.BIO_write(self._into_ssl, records, len(records))

    def give(self) -> bytes:
        """The records that are to be sent; each is given once."""
        if lib.BIO_get_mem_data(self._from_ssl, _where) <= 0:
            return b""
        given: list[bytes] = []
        while (size := lib.BIO_read(self._from_ssl, _buffer, _ROOM)) > 0:
            given.append(_buffer_view[:size])
        return given[0] if len(given) == 1 else b"".join(given)

    def shake(self) -> bool:
        """Go on with the handshake; whether it is done."""
        lib.ERR_clear_error()
        _at_hand.append(self._expected)
        try:
            result = lib.SSL_do_handshake(self._ssl)
        finally:
            _at_hand.pop()
        if result == 1:
            return True
        self._look_at(result)
        return False

    def read(self) -> bool:
        """Read all that is there, after the handshake: application data is dropped.

        Whether the peer has said close_notify.
        """
        lib.ERR_clear_error()
        while (result := lib.SSL_read(self._ssl, _buffer, _ROOM)) > 0:
            pass
        return self._look_at(result)

    def say_goodbye(self) -> None:
        """A close_notify, where one can be said: else the peer is told by silence."""
        lib.SSL_shutdown(self._ssl)
        lib.ERR_clear_error()

    def peer(self) -> Fingerprint | None:
        """The one of those expected that the peer's certificate has."""
        certificate = lib.SSL_get_peer_certificate(self._ssl)
        if certificate == ffi.NULL:
            return None
        try:
            return self._expected.match(certificate)
        finally:
            lib.X509_free(certificate)

    def srtp_profile(self) -> str:
        """OpenSSL's name of what was agreed on by use_srtp (RFC 5764); empty: nothing."""
        profile = lib.SSL_get_selected_srtp_profile(self._ssl)
        if profile == ffi.NULL:
            return ""
        name: bytes = ffi.string(profile.name)
        return name.decode()

    def export(self, label: bytes, size: int) -> bytes:
        """Keying material (RFC 5705), so many bytes, at most a few hundred."""
        if lib.SSL_export_keying_material(self._ssl, _buffer, size, label, len(label), ffi.NULL, 0, 0) != 1:
            exception_from_error_queue(SSL.Error)
        material: bytes = _buffer_view[:size]
        return material

    def _look_at(self, result: int) -> bool:
        """What a call returned that has not gone through: whether the peer has ended it, or it wants more."""
        said = lib.SSL_get_error(self._ssl, result)
        if said == lib.SSL_ERROR_ZERO_RETURN:
            return True
        if said != lib.SSL_ERROR_WANT_READ:
            exception_from_error_queue(SSL.Error)
        return False
