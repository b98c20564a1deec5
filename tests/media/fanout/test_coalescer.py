"""Small packets of many tracks: how they are gathered, in how few messages they leave, what refusals do."""

import ctypes
import errno
import os
import socket
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.core.rtp import build, pad, parse_header
from media.core.srtp import AEAD_AES_128_GCM, AES128_CM_SHA1_80
from media.fanout.coalescer import HOLD_S, MAX_PAD, Coalescer, arranged
from media.fanout.frames import MAX_RUN_BYTES
from media.fanout.sender import GSO_RETRY_AFTER, MAX_PACKET, FanoutSender, kernel_has_gso
from media.fanout.sendmany import Outbox, PackedAddress
from tests.media.fanout.pieces import Receiver, RecordingSocket

WEBCAM, VOICE = 0x0A, 0x0B


def packet(size: int, ssrc: int = WEBCAM, sequence: int = 1) -> bytes:
    return build(payload_type=96, sequence=sequence, timestamp=9000, ssrc=ssrc, payload=os.urandom(size - 12))


def payload(data: bytes) -> bytes:
    return bytes(parse_header(data).payload(data))


class RecordingOutbox:
    """As Outbox: takes messages until one is refused, which it says when that is the first."""

    def __init__(self, sock: RecordingSocket, most: int = 256) -> None:
        self._socket, self._most = sock, most
        self._messages: list[tuple[PackedAddress, int, int, int]] = []
        self.calls = 0

    @property
    def full(self) -> bool:
        return len(self._messages) == self._most

    @property
    def count(self) -> int:
        return len(self._messages)

    def add(self, to: PackedAddress, place: int, length: int, segment: int) -> None:
        assert not self.full
        self._messages.append((to, place, length, segment))

    def send(self, first: int) -> int:
        self.calls += 1
        for taken, (to, place, length, segment) in enumerate(self._messages[first:]):
            port = int.from_bytes(to.memory.raw[2:4], "big")
            host = socket.inet_ntoa(to.memory.raw[4:8])
            try:
                self._socket.take_message(ctypes.string_at(place, length), (host, port), segment)
            except OSError:
                if taken == 0:
                    raise
                return taken
        return len(self._messages) - first

    def clear(self) -> None:
        self._messages.clear()


def recording(most: int = 256) -> tuple[RecordingSocket, RecordingOutbox, Coalescer]:
    sock = RecordingSocket()
    outbox = RecordingOutbox(sock, most)
    return sock, outbox, Coalescer(sock.sender(), outbox)


@pytest.mark.parametrize("profile", [AEAD_AES_128_GCM, AES128_CM_SHA1_80])
def test_what_is_gathered_for_all_leaves_in_one_call_and_each_can_read_its_own(profile) -> None:
    sock, outbox, coalescer = recording()
    members = [Receiver(port, profile) for port in (1, 2, 3)]
    sent = {
        member.address: [packet(80 + 3 * n, VOICE + n) for n in range(4)] + [packet(700, 100 + n)]
        for n, member in enumerate(members)
    }
    for member in members:
        for one in sent[member.address]:
            coalescer.add(member.destination, one, 1.0)
    assert sock.datagrams == []
    assert coalescer.next_deadline() == 1.0 + HOLD_S
    coalescer.handle_timeout(1.0 + HOLD_S / 2)
    assert sock.datagrams == []
    coalescer.handle_timeout(1.0 + HOLD_S)
    assert coalescer.next_deadline() is None
    assert outbox.calls == 1
    assert [(how, count) for how, _, count in sock.calls] == [("gso", 2), ("gso", 3)] * 3
    for member in members:
        got = [payload(data) for data in member.packets(sock)]
        assert sorted(got) == sorted(payload(data) for data in sent[member.address])
        assert (member.destination.packets_sent, member.destination.drops) == (5, 0)


def test_a_packet_alone_is_sent_as_it_is() -> None:
    sock, _, coalescer = recording()
    member = Receiver(1)
    alone = packet(321)
    coalescer.add(member.destination, alone, 0.0)
    coalescer.flush(0.0)
    assert [how for how, _, _ in sock.calls] == ["plain"]
    assert member.packets(sock) == [alone]


def test_a_second_wait_begins_with_the_next_packet() -> None:
    _, _, coalescer = recording()
    member = Receiver(1)
    coalescer.add(member.destination, packet(100), 1.0)
    coalescer.add(member.destination, packet(100, VOICE), 1.0 + HOLD_S * 0.9)
    assert coalescer.next_deadline() == 1.0 + HOLD_S
    coalescer.handle_timeout(1.0 + HOLD_S)
    coalescer.add(member.destination, packet(100, sequence=2), 2.0)
    assert coalescer.next_deadline() == 2.0 + HOLD_S


def test_more_than_one_call_takes_leaves_in_several() -> None:
    sock, outbox, coalescer = recording(most=4)
    members = [Receiver(port) for port in range(1, 11)]
    for member in members:
        coalescer.add(member.destination, packet(100), 0.0)
    coalescer.flush(0.0)
    assert outbox.calls == 3
    assert all(len(member.packets(sock)) == 1 for member in members)


def test_more_than_the_buffer_holds_leaves_all_the_same_in_order() -> None:
    sock, _, coalescer = recording()
    member = Receiver(1)
    count = 1500
    for number in range(count):
        coalescer.add(member.destination, packet(1200, sequence=number), 0.0)
    coalescer.flush(0.0)
    assert [header.sequence for header in member.headers(sock)] == list(range(count))


@pytest.mark.parametrize("refusal", [errno.EMSGSIZE, errno.EINVAL])
def test_who_takes_no_segmentation_gets_its_packets_one_by_one_and_is_tried_again_later(refusal: int) -> None:
    sock, _, coalescer = recording()
    narrow, wide = Receiver(1), Receiver(2)
    sock.refuse = lambda how, to: OSError(refusal, "") if how == "gso" and to == narrow.address else None
    sequence = 0

    def flush(now: float) -> list[tuple[str, int]]:
        nonlocal sequence
        sock.calls.clear()
        sequence += 1
        for member in (narrow, wide):
            for ssrc in (WEBCAM, VOICE):
                coalescer.add(member.destination, packet(200, ssrc, sequence), now)
        coalescer.flush(now)
        assert len(narrow.packets(sock)) == len(wide.packets(sock)) == 2
        return [(how, to[1]) for how, to, _ in sock.calls]

    assert flush(0.0) == [("plain", 1), ("plain", 1), ("gso", 2)]
    assert flush(1.0) == [("plain", 1), ("plain", 1), ("gso", 2)]
    sock.refuse = lambda how, to: None
    assert flush(GSO_RETRY_AFTER + 0.1) == [("gso", 1), ("gso", 2)]
    assert coalescer._sender.counters.gso_refused == 1, "only the first time was a refusal"


def test_a_device_that_cannot_checksum_segments_gets_none_for_a_while() -> None:
    sock, _, coalescer = recording()
    member, other = Receiver(1), Receiver(2)
    sock.refuse = lambda how, to: OSError(errno.EIO, "") if how == "gso" else None
    for number, now in enumerate((0.0, 1.0)):
        for each in (member, other):
            coalescer.add(each.destination, packet(200, WEBCAM, number), now)
            coalescer.add(each.destination, packet(200, VOICE, number), now)
        coalescer.flush(now)
    assert len(member.packets(sock)) == len(other.packets(sock)) == 4
    assert {how for how, _, _ in sock.calls} == {"plain"}


def test_a_full_buffer_and_a_refused_address_cost_their_own_packets_alone() -> None:
    sock, _, coalescer = recording()
    full, nowhere, fine = Receiver(1), Receiver(2), Receiver(3)
    numbers = {full.address: errno.EAGAIN, nowhere.address: errno.ENETUNREACH}
    sock.refuse = lambda how, to: OSError(numbers[to], "") if to in numbers else None
    for member in (full, nowhere, fine):
        coalescer.add(member.destination, packet(200, WEBCAM), 0.0)
        coalescer.add(member.destination, packet(200, VOICE), 0.0)
    coalescer.flush(0.0)
    assert len(fine.packets(sock)) == 2
    assert (full.destination.drops, nowhere.destination.drops, fine.destination.drops) == (2, 2, 0)
    counters = coalescer._sender.counters
    assert (counters.packets, counters.dropped, counters.refused) == (2, 2, 2)


def test_a_packet_that_srtp_refuses_is_not_sent_and_its_neighbours_are() -> None:
    sock, _, coalescer = recording()
    member = Receiver(1)
    coalescer.add(member.destination, packet(200, WEBCAM, 7), 0.0)
    coalescer.flush(0.0)
    member.packets(sock)
    again, voice = packet(200, WEBCAM, 7), packet(200, VOICE, 1)  # another plaintext of the same number
    coalescer.add(member.destination, again, 0.0)
    coalescer.add(member.destination, voice, 0.0)
    coalescer.flush(0.0)
    assert member.packets(sock) == [voice]
    assert member.destination.drops == 1


def test_who_has_left_is_sent_nothing() -> None:
    sock, _, coalescer = recording()
    member = Receiver(1)
    coalescer.add(member.destination, packet(200), 0.0)
    coalescer.forget(member.destination)
    coalescer.flush(0.0)
    assert sock.datagrams == []


def test_a_packet_too_long_is_refused() -> None:
    _, _, coalescer = recording()
    with pytest.raises(ValueError, match="longer than"):
        coalescer.add(Receiver(1).destination, packet(MAX_PACKET + 1), 0.0)


SSRCS = st.integers(1, 5)
PACKETS = st.lists(st.tuples(SSRCS, st.integers(13, 1300)), min_size=1, max_size=150)


@given(PACKETS, st.booleans())
def test_runs_hold_every_packet_once_in_its_tracks_order_and_as_the_kernel_wants_it(
    made: list[tuple[int, int]], padded: bool
) -> None:
    packets = [packet(size, ssrc, number) for number, (ssrc, size) in enumerate(made)]
    if padded:  # as a publisher may have done
        packets = [pad(one, len(one) + 3) for one in packets]
    runs = arranged(packets)
    for run in runs:
        sizes = [len(one) for one in run]
        assert len(set(sizes[:-1])) <= 1
        assert sizes[-1] <= sizes[0]
        assert len(run) <= 64
        assert sum(sizes) + 16 * len(run) <= MAX_RUN_BYTES
    out = [one for run in runs for one in run]
    before = {parse_header(one).sequence: one for one in packets}
    assert sorted(parse_header(one).sequence for one in out) == sorted(before)
    for ssrc in {parse_header(one).ssrc for one in out}:
        numbers = [parse_header(one).sequence for one in out if parse_header(one).ssrc == ssrc]
        assert numbers == sorted(numbers)
    for one in out:
        original = before[parse_header(one).sequence]
        assert payload(one) == payload(original)
        assert 0 <= len(one) - len(original) <= MAX_PAD


def test_two_packets_are_one_message_whatever_their_sizes_and_nothing_is_padded_for_it() -> None:
    small, large = packet(90, VOICE), packet(800, WEBCAM)
    assert arranged([small, large]) == [[large, small]]


@pytest.fixture
def wire() -> Iterator[tuple[Coalescer, socket.socket, Callable[[], list[bytes]]]]:
    """A coalescer on a real socket, and one that reads."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sending,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as reading,
    ):
        reading.bind(("127.0.0.1", 0))
        reading.settimeout(5)

        def read() -> list[bytes]:
            return [reading.recv(2048) for _ in range(6)]

        sender = FanoutSender(sending, gso=kernel_has_gso(sending))
        yield Coalescer(sender, Outbox(sending)), reading, read


def test_the_kernel_takes_them(wire) -> None:
    coalescer, reading, read = wire
    member = Receiver(0)
    member.destination.address = reading.getsockname()
    sent = [packet(60 + 9 * n, VOICE + n) for n in range(4)] + [packet(700, 1), packet(1100, 2)]
    for one in sent:
        coalescer.add(member.destination, one, 0.0)
    coalescer.flush(0.0)
    got = [member._inbound.unprotect(data) for data in read()]
    assert sorted(payload(data) for data in got) == sorted(payload(data) for data in sent)
    assert member.destination.packets_sent == 6
