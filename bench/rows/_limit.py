"""What an edge is held against: bench/native/fanout_limit.c, over libsrtp as our own code uses it."""

import ctypes
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pylibsrtp._binding import ffi, lib

from bench.figures import NotRun
from bench.rows._sink import sinks
from media.core.srtp import AEAD_AES_128_GCM, OutboundSrtp, SrtpKeys

SOURCE = Path(__file__).parents[1] / "native" / "fanout_limit.c"
FPS = 30.0
SOUND_RATE = 50.0


class Limit:
    """Frames of `packets` RTP packets of `size` bytes, and sound, to `viewers` sockets of a sink process."""

    def __init__(
        self, library: ctypes.CDLL, ports: list[int], packets: int, size: int, sound_size: int
    ) -> None:
        self._run = library.fanout_limit
        self._run.restype = ctypes.c_double
        self._outbound = [OutboundSrtp(keys()) for _ in ports]
        self._contexts = (ctypes.c_void_p * len(ports))(*(_pointer(it) for it in self._outbound))
        raw = b"".join(_loopback(port) for port in ports)
        self._addresses = ctypes.create_string_buffer(raw, len(raw))
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
        self._packets, self._size, self._sound_size = packets, size, sound_size

    def microseconds(self, seconds: float) -> float:
        """CPU time a packet and viewer, at 30 frames a second for so long."""
        sent = ctypes.c_long()
        cpu = self._run(
            ctypes.c_void_p(int(ffi.cast("uintptr_t", ffi.addressof(lib, "srtp_protect")))),
            self._contexts,
            self._addresses,
            len(self._outbound),
            self._socket.fileno(),
            self._packets,
            self._size,
            AEAD_AES_128_GCM.tag_length,
            self._sound_size,
            ctypes.c_double(SOUND_RATE),
            ctypes.c_double(FPS),
            ctypes.c_double(seconds),
            ctypes.byref(sent),
        )
        a_second = FPS * self._packets + SOUND_RATE
        if cpu < 0 or sent.value < 0.98 * seconds * a_second * len(self._outbound):
            raise RuntimeError(f"the limit could not be measured: {sent.value} packets sent in {cpu:.2f} s")
        return float(1e6 * cpu / sent.value)


def keys() -> SrtpKeys:
    """Some of one's own, for a side that only sends."""
    key, salt = os.urandom(16), os.urandom(12)
    return SrtpKeys(AEAD_AES_128_GCM, key, salt, key, salt)


def _loopback(port: int) -> bytes:
    """struct sockaddr_in"""
    return (
        socket.AF_INET.to_bytes(2, sys.byteorder) + port.to_bytes(2, "big") + bytes([127, 0, 0, 1]) + bytes(8)
    )


def _pointer(outbound: OutboundSrtp) -> int:
    return int(ffi.cast("uintptr_t", outbound._context))


@contextmanager
def limit(viewers: int, packets: int, size: int, sound_size: int) -> Iterator[Limit]:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise NotRun("no C compiler here: apt-get install gcc libc6-dev")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "limit.so"
        subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-o", path, SOURCE], check=True)
        with sinks(viewers) as ports:
            yield Limit(ctypes.CDLL(str(path)), ports, packets, size, sound_size)
