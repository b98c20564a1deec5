"""What is made in an arena lies together, whatever else the process allocates."""

import os
import platform
import threading

import pytest
from pylibsrtp._binding import ffi

from media.core.errors import SrtpError
from media.core.srtp import AEAD_AES_128_GCM, Maker, OutboundSrtp, SrtpKeys, new_buffer
from media.drive.arena import Arena

HEAP = 64 << 20  # of glibc: an arena that is not the first thread's is made of aligned heaps of this size


def keys() -> SrtpKeys:
    key, salt = os.urandom(16), os.urandom(12)
    return SrtpKeys(AEAD_AES_128_GCM, key, salt, key, salt)


def context(made: Maker | None) -> tuple[OutboundSrtp, int]:
    """It, and where libsrtp keeps it."""
    outbound = OutboundSrtp(keys(), made=made)
    return outbound, int(ffi.cast("uintptr_t", outbound._context))


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another libc has no arenas")
def test_contexts_lie_in_a_heap_of_their_own() -> None:
    arena = Arena("test")
    kept, theirs, others = [], set(), set()
    for _ in range(50):
        kept.append((context(arena), bytearray(5000), context(None)))
        theirs.add(kept[-1][0][1] // HEAP)
        others.add(kept[-1][2][1] // HEAP)
    assert len(theirs) == 1
    assert not theirs & others


def test_one_thread_makes_them_all_and_a_failure_is_the_callers() -> None:
    arena = Arena("test")
    threads = {arena(threading.get_ident) for _ in range(5)}
    assert len(threads) == 1
    assert threading.get_ident() not in threads
    short = SrtpKeys(AEAD_AES_128_GCM, b"short", b"", b"short", b"")
    with pytest.raises(SrtpError, match=r"16\+12 bytes of key"):
        OutboundSrtp(short, made=arena)
    outbound = OutboundSrtp(keys(), made=arena)  # and it goes on
    packet = bytes.fromhex("8060000100000000000000aa") + bytes(20)
    buffer = new_buffer(100)
    ffi.memmove(buffer, packet, len(packet))
    assert outbound.protect_into(buffer, 0, len(packet)) == len(packet) + outbound.tag_length


def test_its_thread_ends_with_it() -> None:
    arena = Arena("test")
    thread = arena(threading.current_thread)
    assert thread.is_alive()
    del arena
    thread.join(5)
    assert not thread.is_alive()
