"""Pieces the fan-out tests share: SRTP pairs, a recording socket, a source of H.264-shaped packets."""

import os
from collections.abc import Callable
from typing import Any

from media.core.rtp import RtpHeader, build, parse_header
from media.core.srtp import AEAD_AES_128_GCM, InboundSrtp, OutboundSrtp, Profile, SrtpKeys
from media.fanout.sender import UDP_SEGMENT, Destination, SocketAddress

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

    def sendmsg(self, buffers: Any, ancdata: Any = (), flags: int = 0, address: Any = None, /) -> int:
        self._maybe_refuse("gso", address)
        data = b"".join(bytes(buffer) for buffer in buffers)
        ((_, kind, value),) = ancdata
        assert kind == UDP_SEGMENT
        size = int.from_bytes(value, "little")
        parts = [data[at : at + size] for at in range(0, len(data), size)]
        assert len(parts) <= 64
        assert len(data) <= 65_507
        self.calls.append(("gso", address, len(parts)))
        self.datagrams += [(address, part) for part in parts]
        return len(data)

    def _maybe_refuse(self, how: str, address: SocketAddress) -> None:
        error = self.refuse(how, address)
        if error is not None:
            raise error

    def take(self, address: SocketAddress | None = None) -> list[bytes]:
        """The datagrams sent since the last take (to one address)."""
        taken = [data for to, data in self.datagrams if address is None or to == address]
        self.datagrams = [entry for entry in self.datagrams if address is not None and entry[0] != address]
        return taken


class Receiver:
    """A viewer's end: unprotects what reached its address."""

    def __init__(self, port: int, profile: Profile = AEAD_AES_128_GCM, *, allow_repeat: bool = False) -> None:
        self.address = ("192.0.2.7", port)
        outbound, self._inbound = srtp_pair(profile, allow_repeat=allow_repeat)
        self.destination = Destination(outbound, self.address)

    def packets(self, sock: RecordingSocket) -> list[bytes]:
        return [
            self._inbound.unprotect(data) for data in sock.take(self.address) if not 192 <= data[1] <= 223
        ]

    def rtcp(self, sock: RecordingSocket) -> list[bytes]:
        return [
            self._inbound.unprotect_rtcp(data) for data in sock.take(self.address) if 192 <= data[1] <= 223
        ]

    def headers(self, sock: RecordingSocket) -> list[RtpHeader]:
        return [parse_header(packet) for packet in self.packets(sock)]


class Camera:
    """Makes frames as a publisher would: key frames of SPS and IDR slices, deltas, 30 a second."""

    def __init__(
        self, ssrc: int = 0xABCD, sequence: int = 100, timestamp: int = 5_000, payload_type: int = 96
    ) -> None:
        self.ssrc, self.sequence, self.timestamp, self.payload_type = ssrc, sequence, timestamp, payload_type

    def frame(self, *, key: bool = False, packets: int = 4, size: int = 1100) -> list[bytes]:
        payloads = [SPS] if key else []
        body = (IDR if key else DELTA) + b"x" * (size - 1)
        payloads += [body] * (packets - len(payloads))
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
