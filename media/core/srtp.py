"""SRTP and SRTCP (RFC 3711, RFC 7714) in place, by libsrtp through pylibsrtp's own cffi binding.

Measured: the binding called on a buffer of ours costs 0.6 us a packet with AES-128-GCM, a third of
pylibsrtp's `Session.protect(bytes)`, which copies twice. So the fan-out hands `protect_into` a cdata buffer
(`new_buffer`) and an offset; the `bytes` methods are for everything that is rare.

libsrtp refuses to protect the same sequence number of an SSRC twice (a repeated GCM nonce gives the key
stream away). Retransmit by RTX with an SSRC of its own; `allow_repeat` is only for resending the identical
plaintext to peers without RTX.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import repeat, starmap
from typing import Any, Final

import pylibsrtp
from pylibsrtp._binding import ffi, lib

from media.core.errors import SrtpError
from media.core.runs import MAX_PACKETS

#: RFC 3711 appendix: room a protected packet may need beyond its plaintext (GCM tag 16, SRTCP index 4)
MAX_TRAILER: Final = 20
_ROOM: Final = 65536 + 256
_WINDOW_IN: Final = 1024  # packets of replay window: a burst may arrive quite out of order
#: What we send is out of order only where a loss was made good. libsrtp shifts the whole window for each
#: packet: at 1024 that is a tenth of what protecting costs.
WINDOW_OUT: Final = 512
MAX_SOURCES: Final = 64  # SSRCs one peer may send with: three layers with RTX, sound, reports, and room


@dataclass(frozen=True, slots=True)
class Profile:
    """An SRTP protection profile, as DTLS negotiates it (RFC 5764 section 4.1.2)."""

    name: str  # OpenSSL's name
    libsrtp: int
    key_length: int
    salt_length: int
    tag_length: int  # bytes that protecting adds to an RTP packet


AEAD_AES_128_GCM = Profile("SRTP_AEAD_AES_128_GCM", lib.srtp_profile_aead_aes_128_gcm, 16, 12, 16)
AES128_CM_SHA1_80 = Profile("SRTP_AES128_CM_SHA1_80", lib.srtp_profile_aes128_cm_sha1_80, 16, 14, 10)
PROFILES: Final = (AEAD_AES_128_GCM, AES128_CM_SHA1_80)  # best first


@dataclass(frozen=True, slots=True)
class SrtpKeys:
    """What a DTLS handshake yields; "local" protects what we send."""

    profile: Profile
    local_key: bytes
    local_salt: bytes
    remote_key: bytes
    remote_salt: bytes


def new_buffer(size: int) -> Any:
    """A cdata `char[]` for `protect_into`; `ffi.buffer(it)` (or `view`) gives Python's view of it."""
    return ffi.new("char[]", size)


def view(buffer: Any) -> memoryview:
    """A writable memoryview of a cdata buffer of `new_buffer`."""
    return memoryview(ffi.buffer(buffer))


#: Calls what it is given and returns the result: see OutboundSrtp
Maker = Callable[[Callable[[], Any]], Any]


def _create(profile: Profile, key: bytes, direction: int, allow_repeat: bool) -> Any:
    if len(key) != profile.key_length + profile.salt_length:
        raise SrtpError(f"{profile.name} takes {profile.key_length}+{profile.salt_length} bytes of key")
    policy = _policy(profile, direction, allow_repeat)
    policy.key = key
    handle = ffi.new("srtp_t *")
    try:
        _check(lib.srtp_create(handle, policy._policy))  # which copies what it needs
    finally:
        policy.key = None
    return ffi.gc(handle, _dealloc)


@lru_cache(maxsize=8)
def _policy(profile: Profile, direction: int, allow_repeat: bool) -> Any:
    """All but the key, the same for every peer: to make it takes as long as to make a context from it."""
    policy = pylibsrtp.Policy(ssrc_type=direction, srtp_profile=profile.libsrtp)
    policy.window_size = WINDOW_OUT if direction == lib.ssrc_any_outbound else _WINDOW_IN
    policy.allow_repeat_tx = allow_repeat
    return policy


def _dealloc(handle: Any) -> None:
    lib.srtp_dealloc(handle[0])


def _check(status: int) -> None:
    if status:
        raise SrtpError(pylibsrtp.ERRORS[status] if status < len(pylibsrtp.ERRORS) else str(status), status)


# Scratch space shared by all contexts of the process: the core is single-threaded, and every call copies
# its result out before it returns.
_scratch = ffi.new("char[]", _ROOM)
_scratch_view = ffi.buffer(_scratch)
_length = ffi.new("int *")
_run_lengths = ffi.new("int[]", MAX_PACKETS)
_run_length_places = [_run_lengths + number for number in range(MAX_PACKETS)]
_unprotect = lib.srtp_unprotect
_unprotect_rtcp = lib.srtp_unprotect_rtcp
_protect = lib.srtp_protect  # looked up once: protect_into is the hottest call of the house


class OutboundSrtp:
    """Protects what we send to one peer, all SSRCs."""

    __slots__ = ("_context", "_handle", "profile", "tag_length")

    def __init__(self, keys: SrtpKeys, *, allow_repeat: bool = False, made: Maker | None = None) -> None:
        """`made` calls the function that makes the context, and so chooses where its memory comes from."""
        self.profile = keys.profile
        self.tag_length = keys.profile.tag_length
        make = partial(_create, keys.profile, keys.local_key + keys.local_salt, lib.ssrc_any_outbound)
        self._handle = make(allow_repeat) if made is None else made(partial(make, allow_repeat))
        self._context = self._handle[0]

    def protect_into(self, buffer: Any, offset: int, length: int) -> int:
        """Protect the RTP packet of `length` bytes at `offset` in place; returns its new length.

        `buffer` is cdata (`new_buffer`), with `tag_length` bytes of room after the packet (libsrtp does not
        check). Raises SrtpError; the bytes must then not be sent.
        """
        _length[0] = length
        status = _protect(self._context, buffer + offset, _length)
        if status:
            _check(status)
        return _length[0]  # type: ignore[no-any-return]

    def protect_all(self, places: Iterable[tuple[Any, int]]) -> None:
        """Protect many packets in place: (cdata pointer to the packet, its length) each.

        The list can be made once a frame and used for every viewer, as all have one layout; each packet
        grows by `tag_length`. Raises SrtpError at the first that is refused: send nothing of the batch then.
        """
        context = self._context
        for pointer, length in places:
            _length[0] = length
            status = _protect(context, pointer, _length)
            if status:
                _check(status)

    def protect(self, packet: bytes | memoryview) -> bytes:
        return _run(lib.srtp_protect, self._context, packet)

    def protect_rtcp(self, packet: bytes | memoryview) -> bytes:
        return _run(lib.srtp_protect_rtcp, self._context, packet)


class InboundSrtp:
    """Authenticates and decrypts what one peer sends, up to MAX_SOURCES SSRCs; each packet once.

    libsrtp keeps a stream for every SSRC it has authenticated, and walks that list for each packet: without
    a bound, one peer could fill the memory and slow down everybody's packets.
    """

    __slots__ = ("_context", "_handle", "profile", "sources", "tag_length")

    def __init__(self, keys: SrtpKeys) -> None:
        self.profile = keys.profile
        self.tag_length = keys.profile.tag_length
        self._handle = _create(keys.profile, keys.remote_key + keys.remote_salt, lib.ssrc_any_inbound, False)
        self._context = self._handle[0]
        self.sources: set[bytes] = set()  # SSRCs, four bytes each, that have sent something authentic

    def unprotect(self, packet: bytes | memoryview) -> bytes:
        """The plaintext RTP packet; raises SrtpError (authentication, replay, too many sources)."""
        return self._open(_unprotect, packet, bytes(packet[8:12]))

    def unprotect_rtcp(self, packet: bytes | memoryview) -> bytes:
        return self._open(_unprotect_rtcp, packet, bytes(packet[4:8]))

    def knows(self, ssrc: int) -> bool:
        """Whether something authentic has come with this SSRC."""
        return ssrc.to_bytes(4, "big") in self.sources

    def unprotect_run(self, data: memoryview, stride: int, count: int) -> list[int]:
        """Authenticate and decrypt `count` RTP packets, `stride` bytes apart, where they are.

        Each is `tag_length` shorter then; the last one takes what is left of `data`, which is writable. They
        are of an SSRC that is known, and no more than MAX_PACKETS. Returns libsrtp's word on each: 0 is good,
        and a packet with another one is not to be used.
        """
        base = ffi.from_buffer("char[]", data, require_writable=True)
        _run_lengths[0:count] = [stride] * (count - 1) + [len(data) - stride * (count - 1)]
        places = [base + at for at in range(0, count * stride, stride)]
        arguments = zip(repeat(self._context), places, _run_length_places, strict=False)
        return list(starmap(_unprotect, arguments))  # filled anew for each call: `map` would make them

    def _open(self, function: Any, packet: bytes | memoryview, ssrc: bytes) -> bytes:
        known = self.sources
        if ssrc in known:
            return _run(function, self._context, packet)
        if len(known) >= MAX_SOURCES:
            raise SrtpError(f"the peer sends with more than {MAX_SOURCES} SSRCs")
        plain = _run(function, self._context, packet)
        known.add(ssrc)
        return plain


def _run(function: Any, context: Any, packet: bytes | memoryview) -> bytes:
    size = len(packet)
    if size > 65535:
        raise SrtpError("packet longer than a datagram", 3)
    _scratch_view[0:size] = packet
    _length[0] = size
    status = function(context, _scratch, _length)
    if status:
        _check(status)
    result: bytes = _scratch_view[0 : _length[0]]
    return result
