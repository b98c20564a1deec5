"""Pieces the fan-out tests share: SRTP pairs, a recording socket, sources of H.264 and VP8 packets."""

import os
from collections.abc import Callable
from typing import Any

from pylibsrtp._binding import ffi

from media.core.rtp import RtpHeader, build, parse_header
from media.core.srtp import AEAD_AES_128_GCM, InboundSrtp, OutboundSrtp, Profile, SrtpKeys
from media.fanout.destinations import Destination
from media.fanout.sender import FanoutSender
from media.fanout.sendmany import SINGLE_SLOTS, SLOTS, SocketAddress, single_slot_bytes

SPS = bytes.fromhex("6742e01fda014016e84000000300400000078c50a80f162eb0")
IDR = b"\x65"
DELTA = b"\x41"


def srtp_pair(
    profile: Profile = AEAD_AES_128_GCM, *, allow_repeat: bool = False
) -> tuple[OutboundSrtp, InboundSrtp]:
    """What one side sends with and the other receives with."""
    key, salt = os.urandom(profile.key_length), os.urandom(profile.salt_length)
    outbound = OutboundSrtp(SrtpKeys(profile, key, salt, key, salt), allow_repeat=allow_repeat)
    inbound = InboundSrtp(SrtpKeys(profile, key, salt, key, salt))
    return outbound, inbound


class RecordingSocket:
    """Takes sends as a kernel would: splits UDP_SEGMENT sends into datagrams, or refuses as told."""

    def __init__(self) -> None:
        self.datagrams: list[tuple[SocketAddress, bytes]] = []
        self.calls: list[tuple[str, SocketAddress, int]] = []  # "gso" or "plain", address, datagrams
        self.refuse: Callable[[str, SocketAddress], OSError | None] = lambda how, address: None

    def sendto(self, data: Any, address: SocketAddress, /) -> int:
        self._maybe_refuse("plain", address)
        self.calls.append(("plain", address, 1))
        self.datagrams.append((address, bytes(data)))
        return len(data)

    def sender(self, *, gso: bool = True) -> FanoutSender:
        return FanoutSender(self, gso=gso, many=RecordingMany)

    def take_message(self, data: bytes, address: SocketAddress, segment: int) -> None:
        """One message of a sendmmsg; with `segment` above 0 a UDP_SEGMENT send."""
        how = "gso" if segment else "plain"
        self._maybe_refuse(how, address)
        size = segment or len(data)
        parts = [data[at : at + size] for at in range(0, len(data), size)]
        assert len(parts) <= 64
        assert len(data) <= 65_507
        self.calls.append((how, address, len(parts)))
        self.datagrams += [(address, part) for part in parts]

    def _maybe_refuse(self, how: str, address: SocketAddress) -> None:
        error = self.refuse(how, address)
        if error is not None:
            raise error

    def take(self, address: SocketAddress | None = None) -> list[bytes]:
        """The datagrams sent since the last take (to one address)."""
        taken = [data for to, data in self.datagrams if address is None or to == address]
        self.datagrams = [entry for entry in self.datagrams if address is not None and entry[0] != address]
        return taken


class RecordedHeaders(list[Destination]):
    """As sendmany.Headers; where a destination is, it says itself."""

    add = list.append
    fill = list.extend

    def move(self, number: int, recipient: Destination) -> None:
        assert self[number] is recipient

    def drop(self, number: int) -> None:
        self[number] = self[-1]
        self.pop()


class RecordingMany:
    """As SendMany: takes messages until one is refused, which it says when that is the first."""

    def __init__(self, sock: RecordingSocket, work: Any, slot_bytes: int) -> None:
        self._socket = sock
        self._work, self._slot_bytes = work, slot_bytes

    def headers(self) -> "RecordedHeaders":
        return RecordedHeaders()

    def send(self, headers: Any, first: int, count: int, length: int, segment: int) -> int:
        around, step = (SLOTS, self._slot_bytes) if segment else (SINGLE_SLOTS, single_slot_bytes(length))
        assert 0 < count <= around - first % around
        for taken, destination in enumerate(headers[first : first + count]):
            data = bytes(ffi.buffer(self._work + (first + taken) % around * step, length))
            try:
                self._socket.take_message(data, destination.address, segment)
            except OSError:
                if taken == 0:
                    raise
                return taken
        return count


class Receiver:
    """A viewer's end: unprotects what reached its address."""

    def __init__(self, port: int, profile: Profile = AEAD_AES_128_GCM, *, allow_repeat: bool = False) -> None:
        self.address = ("192.0.2.7", port)
        outbound, self._inbound = srtp_pair(profile, allow_repeat=allow_repeat)
        self.destination = Destination(outbound, self.address)

    def unprotect(self, datagram: bytes) -> bytes:
        return self._inbound.unprotect(datagram)

    def packets(self, sock: RecordingSocket) -> list[bytes]:
        return [self.unprotect(data) for data in sock.take(self.address) if not 192 <= data[1] <= 223]

    def rtcp(self, sock: RecordingSocket) -> list[bytes]:
        return [
            self._inbound.unprotect_rtcp(data) for data in sock.take(self.address) if 192 <= data[1] <= 223
        ]

    def headers(self, sock: RecordingSocket) -> list[RtpHeader]:
        return [parse_header(packet) for packet in self.packets(sock)]


VP8_KEY = b"\x10\x50\x42\x1e\x9d\x01\x2a\x00\x05\xd0\x02"  # 1280x720
VP8_DELTA = b"\x10\xb1\x3d\x00"
VP8_MIDDLE = b"\x00"


class Camera:
    """Makes frames as a publisher would: key frames of SPS and IDR slices, deltas, 30 a second."""

    def __init__(
        self, ssrc: int = 0xABCD, sequence: int = 100, timestamp: int = 5_000, payload_type: int = 96
    ) -> None:
        self.ssrc, self.sequence, self.timestamp, self.payload_type = ssrc, sequence, timestamp, payload_type

    def payloads(self, key: bool, packets: int, size: int) -> list[bytes]:
        """Of one frame, as RTP carries them."""
        body = (IDR if key else DELTA) + b"x" * (size - 1)
        return [SPS] * key + [body] * (packets - key)

    def frame(self, *, key: bool = False, packets: int = 4, size: int = 1100) -> list[bytes]:
        payloads = self.payloads(key, packets, size)
        result = []
        for index, payload in enumerate(payloads):
            result.append(
                build(
                    payload_type=self.payload_type,
                    sequence=self.sequence,
                    timestamp=self.timestamp,
                    ssrc=self.ssrc,
                    payload=payload,
                    marker=index == len(payloads) - 1,
                )
            )
            self.sequence = (self.sequence + 1) & 0xFFFF
        self.timestamp = (self.timestamp + 3000) & 0xFFFFFFFF
        return result


class Vp8Camera(Camera):
    """The same in VP8: only the first packet of a frame says what it is."""

    def payloads(self, key: bool, packets: int, size: int) -> list[bytes]:
        head = VP8_KEY if key else VP8_DELTA
        return [head.ljust(size, b"x")] + [VP8_MIDDLE.ljust(size, b"x")] * (packets - 1)
