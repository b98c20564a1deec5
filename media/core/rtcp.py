"""RTCP: parse what peers send, build what we send.

RFC 3550 (SR, RR, SDES, BYE), RFC 4585 (generic NACK, PLI), RFC 5104 (FIR), RFC 3611 (XR: RRTR and DLRR),
draft-alvestrand-rmcat-remb (REMB), transport-wide feedback (recognised, not read). Packets are frozen
dataclasses with `to_bytes()`; `parse_compound` accepts reduced-size compounds (RFC 5506).

NTP times are 64-bit integers (32.32 seconds since 1900); "middle" is their middle 32 bits, in which LSR,
DLSR, LRR and DLRR are counted (units of 1/65536 s).
"""

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from media.core.errors import ParseError

SR, RR, SDES, BYE, APP, RTPFB, PSFB, XR = 200, 201, 202, 203, 204, 205, 206, 207
MAX_NACK_ENTRIES = 1024  # each up to 17 packets: four times what a datagram carries, and 4 ms to read
NTP_UNIX_OFFSET = 2_208_988_800  # seconds from 1900 to 1970

_REPORT = struct.Struct("!IIIIII")
_SENDER = struct.Struct("!IQIII")
_HEADER = struct.Struct("!BBH")
_SSRC = struct.Struct("!I")


def ntp_from_unix(seconds: float) -> int:
    """64-bit NTP time of a Unix time."""
    return int((seconds + NTP_UNIX_OFFSET) * 4294967296) & 0xFFFFFFFFFFFFFFFF


def unix_from_ntp(ntp: int) -> float:
    return ntp / 4294967296 - NTP_UNIX_OFFSET


def middle(ntp: int) -> int:
    """The middle 32 bits of an NTP time, as LSR and LRR carry them."""
    return ntp >> 16 & 0xFFFFFFFF


def round_trip(now_ntp: int, last: int, delay: int) -> float | None:
    """Seconds of round trip from an LSR/DLSR (or LRR/DLRR) pair; None when there was no report yet."""
    if last == 0:
        return None
    units = ((middle(now_ntp) - last - delay + 0x80000000) & 0xFFFFFFFF) - 0x80000000
    return max(units, 0) / 65536


class ReceptionReport(NamedTuple):
    """One report block of an SR or RR: how `ssrc` arrived at the reporter."""

    ssrc: int
    fraction_lost: int  # of 256, since the last report
    lost: int  # packets, cumulative, signed 24 bit
    highest_sequence: int  # extended, 32 bit
    jitter: int  # in the codec's clock
    last_sr: int  # middle of the last SR's NTP time, 0 before one came
    delay_since_last_sr: int  # 1/65536 s

    def to_bytes(self) -> bytes:
        lost = max(-0x800000, min(self.lost, 0x7FFFFF)) & 0xFFFFFF
        return _REPORT.pack(
            self.ssrc,
            (self.fraction_lost & 0xFF) << 24 | lost,
            self.highest_sequence & 0xFFFFFFFF,
            self.jitter & 0xFFFFFFFF,
            self.last_sr,
            self.delay_since_last_sr & 0xFFFFFFFF,
        )


@dataclass(frozen=True, slots=True)
class SenderReport:
    ssrc: int
    ntp: int  # 64 bit
    rtp_timestamp: int
    packet_count: int
    octet_count: int
    reports: tuple[ReceptionReport, ...] = ()

    def to_bytes(self) -> bytes:
        body = _SENDER.pack(
            self.ssrc,
            self.ntp,
            self.rtp_timestamp & 0xFFFFFFFF,
            self.packet_count & 0xFFFFFFFF,
            self.octet_count & 0xFFFFFFFF,
        )
        return _packet(SR, len(self.reports), body + b"".join(r.to_bytes() for r in self.reports))


@dataclass(frozen=True, slots=True)
class ReceiverReport:
    ssrc: int
    reports: tuple[ReceptionReport, ...] = ()

    def to_bytes(self) -> bytes:
        body = self.ssrc.to_bytes(4, "big") + b"".join(r.to_bytes() for r in self.reports)
        return _packet(RR, len(self.reports), body)


@dataclass(frozen=True, slots=True)
class SourceDescription:
    """SDES: the CNAME of each source; other items are not kept."""

    cnames: tuple[tuple[int, str], ...]

    def to_bytes(self) -> bytes:
        body = b""
        for ssrc, cname in self.cnames:
            name = cname.encode()[:255]
            chunk = ssrc.to_bytes(4, "big") + bytes((1, len(name))) + name
            body += chunk + b"\x00" * (4 - len(chunk) % 4)  # at least one null ends the chunk
        return _packet(SDES, len(self.cnames), body)


@dataclass(frozen=True, slots=True)
class Goodbye:
    ssrcs: tuple[int, ...]

    def to_bytes(self) -> bytes:
        return _packet(BYE, len(self.ssrcs), b"".join(s.to_bytes(4, "big") for s in self.ssrcs))


@dataclass(frozen=True, slots=True)
class Nack:
    """Generic NACK: sequence numbers of `media_ssrc` that the sender lacks."""

    sender_ssrc: int
    media_ssrc: int
    sequences: tuple[int, ...]

    def to_bytes(self) -> bytes:
        body = struct.pack("!II", self.sender_ssrc, self.media_ssrc)
        pid, mask = -1, 0
        for sequence in self.sequences:
            gap = (sequence - pid) & 0xFFFF
            if pid >= 0 and gap == 0:
                continue
            if pid >= 0 and gap <= 16:
                mask |= 1 << (gap - 1)
                continue
            if pid >= 0:
                body += struct.pack("!HH", pid, mask)
            pid, mask = sequence & 0xFFFF, 0
        if pid >= 0:
            body += struct.pack("!HH", pid, mask)
        return _packet(RTPFB, 1, body)


@dataclass(frozen=True, slots=True)
class TransportFeedback:
    """Transport-wide congestion feedback: recognised, not read (we never ask for it)."""

    sender_ssrc: int
    media_ssrc: int
    body: bytes

    def to_bytes(self) -> bytes:
        return _packet(RTPFB, 15, struct.pack("!II", self.sender_ssrc, self.media_ssrc) + self.body)


@dataclass(frozen=True, slots=True)
class Pli:
    """Picture loss indication: a key frame of `media_ssrc` is wanted."""

    sender_ssrc: int
    media_ssrc: int

    def to_bytes(self) -> bytes:
        return _packet(PSFB, 1, struct.pack("!II", self.sender_ssrc, self.media_ssrc))


@dataclass(frozen=True, slots=True)
class Fir:
    """Full intra request: (ssrc, command number) each."""

    sender_ssrc: int
    entries: tuple[tuple[int, int], ...]

    def to_bytes(self) -> bytes:
        body = struct.pack("!II", self.sender_ssrc, 0)
        body += b"".join(struct.pack("!IB3x", ssrc, number & 0xFF) for ssrc, number in self.entries)
        return _packet(PSFB, 4, body)


@dataclass(frozen=True, slots=True)
class Remb:
    """Receiver estimated maximum bitrate, bits per second, over `ssrcs`."""

    sender_ssrc: int
    bitrate: int
    ssrcs: tuple[int, ...]

    def to_bytes(self) -> bytes:
        exponent = max(0, self.bitrate.bit_length() - 18)
        body = struct.pack("!II4s", self.sender_ssrc, 0, b"REMB")
        body += (len(self.ssrcs) << 24 | exponent << 18 | self.bitrate >> exponent).to_bytes(4, "big")
        return _packet(PSFB, 15, body + b"".join(s.to_bytes(4, "big") for s in self.ssrcs))


@dataclass(frozen=True, slots=True)
class Dlrr:
    """The answer to one receiver's RRTR: middle of its NTP time, and how long ago it came."""

    ssrc: int
    last_rr: int
    delay: int  # 1/65536 s


@dataclass(frozen=True, slots=True)
class ExtendedReport:
    """XR: a receiver reference time (RRTR) and/or answers to such (DLRR); other blocks are skipped."""

    ssrc: int
    reference_time: int | None = None  # 64-bit NTP
    dlrr: tuple[Dlrr, ...] = ()

    def to_bytes(self) -> bytes:
        body = self.ssrc.to_bytes(4, "big")
        if self.reference_time is not None:
            body += struct.pack("!BBHQ", 4, 0, 2, self.reference_time)
        if self.dlrr:
            body += struct.pack("!BBH", 5, 0, 3 * len(self.dlrr))
            body += b"".join(struct.pack("!III", d.ssrc, d.last_rr, d.delay & 0xFFFFFFFF) for d in self.dlrr)
        return _packet(XR, 0, body)


@dataclass(frozen=True, slots=True)
class Unknown:
    """A well-framed packet of a kind we do not read (APP, other feedback)."""

    packet_type: int
    count: int
    body: bytes

    def to_bytes(self) -> bytes:
        return _packet(self.packet_type, self.count, self.body)


RtcpPacket = (
    SenderReport
    | ReceiverReport
    | SourceDescription
    | Goodbye
    | Nack
    | TransportFeedback
    | Pli
    | Fir
    | Remb
    | ExtendedReport
    | Unknown
)


def build_compound(packets: Iterable[RtcpPacket]) -> bytes:
    return b"".join(packet.to_bytes() for packet in packets)


def _packet(packet_type: int, count: int, body: bytes) -> bytes:
    body += b"\x00" * (-len(body) % 4)
    return struct.pack("!BBH", 0x80 | count & 0x1F, packet_type, len(body) // 4) + body


def parse_compound(data: bytes | memoryview) -> list[RtcpPacket]:
    """All packets of one (reduced-size or full) compound; raises ParseError when any is malformed."""
    data = bytes(data)
    packets: list[RtcpPacket] = []
    at, end = 0, len(data)
    if end == 0:
        raise ParseError("empty RTCP datagram")
    while at < end:
        if end - at < 4:
            raise ParseError("RTCP compound ends in a header")
        first, packet_type, words = _HEADER.unpack_from(data, at)
        count = first & 0x1F
        if packet_type == RR and first >> 5 == 4 and words == 1 + 6 * count and at + 8 + 24 * count <= end:
            # What nearly all of them are: a whole report, and nothing else in it.
            packets.append(ReceiverReport(_SSRC.unpack_from(data, at + 4)[0], _reports(data, at + 8, count)))
            at += 8 + 24 * count
            continue
        if first >> 6 != 2:
            raise ParseError("not RTCP version 2")
        following = at + 4 + 4 * words
        if following > end:
            raise ParseError("RTCP packet longer than its datagram")
        body = data[at + 4 : following]
        if first & 0x20:  # padding
            padding = body[-1] if body else 0
            if padding == 0 or padding > len(body):
                raise ParseError("RTCP padding does not fit")
            body = body[: len(body) - padding]
        packets.append(_parse(packet_type, count, body))
        at = following
    return packets


def _parse(packet_type: int, count: int, body: bytes) -> RtcpPacket:
    try:
        if packet_type == SR:
            ssrc, ntp, timestamp, sent, octets = _SENDER.unpack_from(body)
            return SenderReport(ssrc, ntp, timestamp, sent, octets, _reports(body, 24, count))
        if packet_type == RR:
            return ReceiverReport(_u32(body, 0), _reports(body, 4, count))
        if packet_type == SDES:
            return _parse_sdes(count, body)
        if packet_type == BYE:
            return Goodbye(tuple(_u32(body, 4 * index) for index in range(count)))
        if packet_type == RTPFB and count in (1, 15):
            sender, media = struct.unpack_from("!II", body)
            if count == 15:
                return TransportFeedback(sender, media, body[8:])
            return Nack(sender, media, _nacked(body[8:]))
        if packet_type == PSFB:
            feedback = _parse_psfb(count, body)
            if feedback is not None:
                return feedback
        if packet_type == XR:
            return _parse_xr(body)
    except struct.error:
        raise ParseError(f"RTCP packet of type {packet_type} is cut short") from None
    return Unknown(packet_type, count, body)


def _u32(body: bytes, at: int) -> int:
    value: int = _SSRC.unpack_from(body, at)[0]
    return value


def _reports(body: bytes, at: int, count: int) -> tuple[ReceptionReport, ...]:
    reports = []
    for place in range(at, at + 24 * count, 24):
        ssrc, loss, highest, jitter, last, delay = _REPORT.unpack_from(body, place)
        lost = (loss & 0xFFFFFF ^ 0x800000) - 0x800000  # its sign is in the highest of 24 bits
        reports.append(ReceptionReport(ssrc, loss >> 24, lost, highest, jitter, last, delay))
    return tuple(reports)


def _nacked(fci: bytes) -> tuple[int, ...]:
    if len(fci) % 4:
        raise ParseError("NACK is not a whole number of entries")
    if len(fci) > 4 * MAX_NACK_ENTRIES:
        raise ParseError("NACK is longer than any path's datagrams")
    wanted = []
    for pid, mask in struct.iter_unpack("!HH", fci):
        wanted.append(pid)
        if mask:
            wanted.extend((pid + 1 + bit) & 0xFFFF for bit in range(16) if mask >> bit & 1)
    return tuple(wanted)


def _parse_sdes(count: int, body: bytes) -> SourceDescription:
    names: list[tuple[int, str]] = []
    at = 0
    for _ in range(count):
        ssrc = _u32(body, at)
        at += 4
        while True:
            if at >= len(body):
                raise ParseError("SDES chunk has no end")
            kind = body[at]
            if kind == 0:
                at += 4 - at % 4
                break
            if at + 2 > len(body) or at + 2 + body[at + 1] > len(body):
                raise ParseError("SDES item is cut short")
            if kind == 1:
                text = body[at + 2 : at + 2 + body[at + 1]]
                names.append((ssrc, text.decode("utf-8", "replace")))
            at += 2 + body[at + 1]
    return SourceDescription(tuple(names))


def _parse_psfb(fmt: int, body: bytes) -> Pli | Fir | Remb | None:
    sender, media = struct.unpack_from("!II", body)
    if fmt == 1:
        return Pli(sender, media)
    if fmt == 4:
        if len(body) % 8:
            raise ParseError("FIR is not a whole number of entries")
        return Fir(sender, tuple(struct.iter_unpack("!IB3x", body[8:])))
    if fmt == 15 and body[8:12] == b"REMB":
        word = _u32(body, 12)
        count = word >> 24
        mantissa, exponent = word & 0x3FFFF, word >> 18 & 0x3F
        return Remb(sender, mantissa << exponent, tuple(_u32(body, 16 + 4 * n) for n in range(count)))
    return None


def _parse_xr(body: bytes) -> ExtendedReport:
    ssrc = _u32(body, 0)
    reference: int | None = None
    answers: list[Dlrr] = []
    at = 4
    while at < len(body):
        kind, _, words = struct.unpack_from("!BBH", body, at)
        block = body[at + 4 : at + 4 + 4 * words]
        if len(block) != 4 * words:
            raise ParseError("XR block is cut short")
        if kind == 4:
            reference = struct.unpack_from("!Q", block)[0]
        elif kind == 5:
            if len(block) % 12:
                raise ParseError("DLRR is not a whole number of entries")
            answers.extend(Dlrr(*entry) for entry in struct.iter_unpack("!III", block))
        at += 4 + 4 * words
    return ExtendedReport(ssrc, reference, tuple(answers))
