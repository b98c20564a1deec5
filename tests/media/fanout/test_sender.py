"""The send path: what leaves, in how many calls, and what happens when the kernel refuses."""

import contextlib
import errno
import random
import socket
import tracemalloc
from typing import Any

import pytest

from media.core.rtp import build, parse_header
from media.core.srtp import AEAD_AES_128_GCM, AES128_CM_SHA1_80
from media.fanout.destinations import ViewerClass
from media.fanout.frames import Batch
from media.fanout.sender import GSO_RETRY_AFTER, FanoutSender, kernel_has_gso
from tests.media.fanout.pieces import Receiver, RecordingMany, RecordingSocket


def packets(sizes: list[int], first: int = 1) -> list[bytes]:
    return [
        build(payload_type=0, sequence=first + n, timestamp=9000, ssrc=7, payload=b"p" * (size - 12))
        for n, size in enumerate(sizes)
    ]


def viewers(*receivers: Receiver, payload_type: int = 96) -> ViewerClass:
    made = ViewerClass(payload_type, receivers[0].destination.tag_length)
    for receiver in receivers:
        made.add(receiver.destination)
    return made


@pytest.mark.parametrize("profile", [AEAD_AES_128_GCM, AES128_CM_SHA1_80])
def test_a_frame_leaves_in_one_call_a_viewer_and_each_can_read_it(profile) -> None:
    sock = RecordingSocket()
    sender = sock.sender()
    receivers = [Receiver(1, profile), Receiver(2, profile)]
    sent = packets([1200] * 15 + [300])
    sender.send_batch(Batch(1, sent), [viewers(*receivers, payload_type=102)], 0.0)
    assert [(how, count) for how, _, count in sock.calls] == [("gso", 16), ("gso", 16)]
    for receiver in receivers:
        got = receiver.packets(sock)
        assert [parse_header(packet).payload_type for packet in got] == [102] * 16
        assert [packet[2:] for packet in got] == [packet[2:] for packet in sent]
        assert receiver.destination.packets_sent == 16


def test_each_class_gets_its_own_payload_type() -> None:
    sock = RecordingSocket()
    sender = sock.sender()
    chrome, firefox = Receiver(1), Receiver(2)
    classes = [viewers(chrome, payload_type=108), viewers(firefox, payload_type=126)]
    sender.send_batch(Batch(1, packets([500, 500])), classes, 0.0)
    assert {h.payload_type for h in chrome.headers(sock)} == {108}
    assert {h.payload_type for h in firefox.headers(sock)} == {126}


def test_uneven_sizes_leave_in_runs_and_a_single_packet_without_segmentation() -> None:
    sock = RecordingSocket()
    sender = sock.sender()
    receiver = Receiver(1)
    sent = packets([40, 1200, 1200, 1199, 1201, 1201, 90, 900])
    sender.send_batch(Batch(1, sent), [viewers(receiver)], 0.0)
    assert [(how, count) for how, _, count in sock.calls] == [
        ("plain", 1),
        ("gso", 3),
        ("gso", 3),
        ("plain", 1),
    ]
    assert [len(p) for p in receiver.packets(sock)] == [len(p) for p in sent]


@pytest.mark.parametrize("refusal", [errno.EMSGSIZE, errno.EINVAL])
def test_one_viewer_behind_a_small_mtu_falls_back_alone_and_is_tried_again_later(refusal: int) -> None:
    sock = RecordingSocket()
    sender = sock.sender()
    narrow, wide = Receiver(1), Receiver(2)
    both = [viewers(narrow, wide)]
    sock.refuse = lambda how, to: OSError(refusal, "") if how == "gso" and to == narrow.address else None

    sender.send_batch(Batch(1, packets([1200] * 4)), both, 0.0)
    assert [h.sequence for h in narrow.headers(sock)] == [1, 2, 3, 4]  # the refused frame itself arrives too
    assert [h.sequence for h in wide.headers(sock)] == [1, 2, 3, 4]
    assert sender.counters.gso_refused == 1

    sock.calls.clear()
    sender.send_batch(Batch(5, packets([1200] * 4, 5)), both, 1.0)
    assert [how for how, to, _ in sock.calls if to == narrow.address] == ["plain"] * 4
    assert [how for how, to, _ in sock.calls if to == wide.address] == ["gso"]
    assert sender.counters.gso_refused == 1
    assert sender.uses_gso(1.0)

    sock.refuse = lambda how, to: None
    sock.calls.clear()
    sender.send_batch(Batch(9, packets([1200] * 4, 9)), both, GSO_RETRY_AFTER + 0.1)
    assert [how for how, _, _ in sock.calls] == ["gso", "gso"]


def test_a_device_without_checksum_offload_turns_segmentation_off_for_the_socket() -> None:
    sock = RecordingSocket()
    sender = sock.sender()
    first, second = Receiver(1), Receiver(2)
    sock.refuse = lambda how, to: OSError(errno.EIO, "") if how == "gso" else None
    sender.send_batch(Batch(1, packets([1200] * 3)), [viewers(first, second)], 0.0)
    assert [how for how, _, _ in sock.calls] == ["plain"] * 6
    assert sender.counters.gso_refused == 1
    assert not sender.uses_gso(0.0)
    assert [h.sequence for h in second.headers(sock)] == [1, 2, 3]
    assert sender.uses_gso(GSO_RETRY_AFTER + 0.1)


def test_a_full_send_buffer_is_a_counted_drop_and_the_others_go_on() -> None:
    sock = RecordingSocket()
    sender = sock.sender()
    blocked, free = Receiver(1), Receiver(2)
    sock.refuse = lambda how, to: BlockingIOError(errno.EAGAIN, "") if to == blocked.address else None
    sender.send_batch(Batch(1, packets([1200] * 4)), [viewers(blocked, free)], 0.0)
    assert (blocked.destination.drops, sender.counters.full) == (4, 4)
    assert len(free.packets(sock)) == 4
    assert sender.uses_gso(0.0)


def test_no_plaintext_ever_leaves_when_libsrtp_refuses_a_packet() -> None:
    sock = RecordingSocket()
    sender = sock.sender()
    receiver = Receiver(1)
    first = packets([600] * 3)
    sender.send_packets(first[1:2], 96, receiver.destination, 0.0)
    sock.take()
    sender.send_batch(Batch(1, first), [viewers(receiver)], 0.0)  # the middle one was sent already
    raw = sock.take()
    assert len(raw) == 2
    assert all(b"pppp" not in data for data in raw)
    assert sender.counters.unprotected == 1


def test_without_segmentation_in_the_kernel_every_packet_is_sent_plainly() -> None:
    sock = RecordingSocket()
    sender = sock.sender(gso=False)
    receiver = Receiver(1)
    sender.send_batch(Batch(1, packets([1200] * 3)), [viewers(receiver)], 0.0)
    assert [how for how, _, _ in sock.calls] == ["plain"] * 3
    assert not sender.uses_gso(0.0)


def test_frames_of_ever_new_sizes_fill_no_memory() -> None:
    sock = RecordingSocket()
    sender = sock.sender()
    receiver = Receiver(1)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for n in range(1000):
            batch = Batch(16 * n, packets([1200] * 15 + [100 + n], 16 * n))
            sender.send_batch(batch, [viewers(receiver)], 0.0)
            assert len(receiver.packets(sock)) == 16
            sock.calls.clear()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 2_000_000


def test_a_real_socket_delivers_the_segments_as_datagrams() -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as tx,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as rx,
    ):
        rx.bind(("127.0.0.1", 0))
        rx.settimeout(2)
        tx.setblocking(False)
        sender = FanoutSender(tx, gso=kernel_has_gso(tx))
        receiver = Receiver(1)
        receiver.destination.address = rx.getsockname()
        sender.send_batch(Batch(1, packets([1200] * 5 + [77])), [viewers(receiver)], 0.0)
        sizes = [len(rx.recv(2048)) for _ in range(6)]
        tag = receiver.destination.tag_length
        assert sizes == [1200 + tag] * 5 + [77 + tag]


def test_sound_for_a_crowd_leaves_in_few_calls_and_each_can_read_it() -> None:
    sock = RecordingSocket()
    rounds: list[tuple[int, int]] = []

    class Counting(RecordingMany):
        def send(self, headers: Any, first: int, count: int, length: int, segment: int) -> int:
            rounds.append((first, count))
            return super().send(headers, first, count, length, segment)

    sender = FanoutSender(sock, gso=True, many=Counting)
    receivers = [Receiver(port) for port in range(1, 601)]
    crowd = viewers(*receivers, payload_type=111)
    for number, size in enumerate([252, 48, 49, 1400]):  # 48 and a tag end with a line of the cache
        rounds.clear()
        sent = packets([size], number)
        sender.send_batch(Batch(number, sent), [crowd], 0.0)
        assert rounds == [(0, 256), (256, 256), (512, 88)]
        for receiver in receivers:
            (got,) = receiver.packets(sock)
            assert (got[1], got[2:]) == (111, sent[0][2:])


def test_a_single_packet_that_some_cannot_be_sent_reaches_all_the_others() -> None:
    sock = RecordingSocket()
    sender = sock.sender()
    receivers = [Receiver(port) for port in range(1, 301)]
    had, blocked, last = receivers[3], receivers[270], receivers[-1]
    sender.send_packets(packets([100]), 111, had.destination, 0.0)
    sock.take()
    full = BlockingIOError(errno.EAGAIN, "")
    sock.refuse = lambda how, to: full if to in (blocked.address, last.address) else None
    sender.send_batch(Batch(1, packets([100])), [viewers(*receivers, payload_type=111)], 0.0)
    assert {to for to, _ in sock.datagrams} == {
        receiver.address for receiver in receivers if receiver not in (had, blocked, last)
    }
    size = 100 + had.destination.tag_length
    for receiver in receivers:
        destination = receiver.destination
        missing = receiver in (blocked, last)
        assert (destination.packets_sent, destination.bytes_sent) == ((0, 0) if missing else (1, size))
        assert destination.drops == (missing or receiver is had)
    assert (sender.counters.full, sender.counters.unprotected) == (2, 1)
    assert sender.counters.packets == 1 + 297


def test_what_a_viewer_was_sent_counts_from_when_it_came_and_stays_when_it_goes() -> None:
    sock = RecordingSocket()
    sender = sock.sender()
    early, late = Receiver(1), Receiver(2)
    size = 500 + early.destination.tag_length
    crowd = viewers(early)
    sender.send_batch(Batch(1, packets([500] * 3, 1)), [crowd], 0.0)
    crowd.add(late.destination)
    sender.send_batch(Batch(4, packets([500] * 2, 4)), [crowd], 0.0)
    sender.send_batch(Batch(6, packets([500], 6)), [crowd.without({early.destination})], 0.0)
    assert crowd.remove(early.destination)
    sender.send_batch(Batch(7, packets([500] * 4, 7)), [crowd], 0.0)
    sender.send_packets(packets([500] * 2, 6), 96, early.destination, 0.0)
    for receiver, sent in ((early, 3 + 2 + 2), (late, 2 + 1 + 4)):
        assert len(receiver.packets(sock)) == sent
        assert (receiver.destination.packets_sent, receiver.destination.bytes_sent) == (sent, sent * size)
    sock.refuse = lambda how, to: OSError(errno.ENETUNREACH, "")
    sender.send_batch(Batch(11, packets([500] * 4, 11)), [crowd], 0.0)
    assert (late.destination.packets_sent, late.destination.drops) == (7, 4)


def test_whatever_sizes_follow_one_another_the_kernel_sends_to_each_his_own() -> None:
    crowd = [Receiver(port) for port in range(1, 71)]
    with contextlib.ExitStack() as stack:
        tx = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        ears = [stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in crowd]
        for ear, receiver in zip(ears, crowd, strict=True):
            ear.bind(("127.0.0.1", 0))
            ear.settimeout(2)
            receiver.destination.address = ear.getsockname()
        sender = FanoutSender(tx, gso=kernel_has_gso(tx))
        everyone = viewers(*crowd, payload_type=100)
        first = 1
        for sizes in ([100], [1200] * 3 + [50], [700], [90] * 2, [101], [1200] * 4):
            sent = packets(sizes, first)
            sender.send_batch(Batch(first, sent), [everyone], 0.0)
            first += len(sizes)
            for ear, receiver in zip(ears, crowd, strict=True):
                got = [receiver.unprotect(ear.recv(2048)) for _ in sizes]
                assert [packet[2:] for packet in got] == [packet[2:] for packet in sent]


def test_who_moves_is_sent_to_at_the_new_address_from_then_on() -> None:
    with contextlib.ExitStack() as stack:
        tx, old, new, other = (
            stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(4)
        )
        for ear in (old, new, other):
            ear.bind(("127.0.0.1", 0))
            ear.settimeout(2)
        sender = FanoutSender(tx, gso=kernel_has_gso(tx))
        moves, stays = Receiver(1), Receiver(2)
        moves.destination.address, stays.destination.address = old.getsockname(), other.getsockname()
        everyone = viewers(moves, stays)
        for first, ear in ((1, old), (6, new)):
            moves.destination.go_to(ear.getsockname())
            for sizes in ([500] * 4, [90]):
                sent = packets(sizes, first)
                sender.send_batch(Batch(first, sent), [everyone], 0.0)
                first += len(sizes)
                for receiver, at in ((moves, ear), (stays, other)):
                    got = [receiver.unprotect(at.recv(2048)) for _ in sizes]
                    assert [packet[2:] for packet in got] == [packet[2:] for packet in sent]
        old.setblocking(False)
        with pytest.raises(BlockingIOError):
            old.recv(2048)


@pytest.mark.parametrize("seed", range(4))
def test_however_a_class_changes_each_of_it_is_sent_to_where_it_is(seed: int) -> None:
    chance = random.Random(seed)
    with contextlib.ExitStack() as stack:
        tx = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        free = []
        for _ in range(60):
            ear = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            ear.bind(("127.0.0.1", 0))
            ear.setblocking(False)
            free.append(ear)
        sender = FanoutSender(tx, gso=kernel_has_gso(tx))
        crowd = ViewerClass(96, 16)
        there: dict[Receiver, socket.socket] = {}
        number = 1
        for _ in range(80):
            kind = chance.choice(["comes", "comes", "goes", "moves"])
            if kind == "comes" and free:
                receiver = Receiver(1)
                there[receiver] = free.pop(chance.randrange(len(free)))
                receiver.destination.go_to(there[receiver].getsockname())
                crowd.add(receiver.destination)
            elif kind == "goes" and there:
                receiver = chance.choice(list(there))
                free.append(there.pop(receiver))
                assert crowd.remove(receiver.destination)
            elif kind == "moves" and there and free:
                receiver = chance.choice(list(there))
                free.append(there[receiver])
                there[receiver] = free.pop(0)
                receiver.destination.go_to(there[receiver].getsockname())
            sizes = chance.choice([[300], [400] * 3])
            sent = packets(sizes, number)
            number += len(sizes)
            sender.send_batch(Batch(number, sent), [crowd], 0.0)
            for receiver, ear in there.items():
                got = [receiver.unprotect(ear.recv(2048)) for _ in sizes]
                assert [packet[2:] for packet in got] == [packet[2:] for packet in sent]
            for ear in (*there.values(), *free):
                with pytest.raises(BlockingIOError):
                    ear.recv(2048)
