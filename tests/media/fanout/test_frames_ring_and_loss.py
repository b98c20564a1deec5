"""The small parts: batches and runs, the ring, what is missing or resent, key-frame wishes, clocks."""

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.core.rtcp import middle
from media.core.rtp import RtpHeader, build, parse_header
from media.fanout.continuity import Continuity
from media.fanout.frames import MAX_BATCH, FrameBatcher, evened, runs
from media.fanout.keyframes import KEYFRAME_INTERVAL, KeyframeRequests
from media.fanout.loss import NACK_MAX_TRIES, MissingPackets, ResendBudget
from media.fanout.reception import Reception
from media.fanout.ring import PacketRing
from media.fanout.senderclock import SenderClock


@given(st.lists(st.integers(12, 1400), min_size=1, max_size=MAX_BATCH))
def test_runs_keep_order_and_are_fit_for_segmentation(sizes: list[int]) -> None:
    batch = [bytes(size) for size in sizes]
    split = runs(batch)
    assert [packet for run in split for packet in run] == batch
    for run in split:
        assert all(len(packet) == len(run[0]) for packet in run[:-1])
        assert len(run[-1]) <= len(run[0])


def test_a_batch_is_ready_at_the_marker_when_full_and_when_another_frame_begins() -> None:
    batcher = FrameBatcher()
    assert batcher.add(1, [b"a"], 10, marker=False) == []
    (ready,) = batcher.add(2, [b"b"], 10, marker=True)
    assert (ready.first, ready.packets) == (1, [b"a", b"b"])
    assert batcher.add(3, [b"c"], 20, marker=False) == []
    (ready,) = batcher.add(4, [b"d"], 30, marker=False)  # the end of frame 20 was lost
    assert ready.packets == [b"c"]
    assert batcher.held == 1
    assert [b.packets for b in batcher.add(6, [b"f"], 30, marker=True)] == [[b"d"], [b"f"]]  # 5 is missing
    full = [batch for n in range(10, 10 + MAX_BATCH) for batch in batcher.add(n, [b"x"], 40, marker=False)]
    assert [len(batch.packets) for batch in full] == [MAX_BATCH]
    assert batcher.flush() is None


def test_the_ring_forgets_the_oldest_and_finds_by_wire_sequence() -> None:
    ring = PacketRing(8)
    assert ring.find(5) is None
    for number in range(0xFFFC, 0x10004):
        assert ring.insert(number, bytes([number & 0xFF]))
    assert not ring.insert(0x10001, b"again")
    assert ring.find(0xFFFD) == 0xFFFD
    assert ring.find(2) == 0x10002
    ring.insert(0x10004, b"new")
    assert ring.get(0xFFFC) is None
    assert ring.find(0xFFFC) is None
    assert not ring.insert(0xFFFC, b"too old")
    ring.gop_start = 0xFFFE
    assert ring.holds_gop()
    ring.insert(0x10006, b"gap before it")
    assert not ring.holds_gop()
    with pytest.raises(ValueError, match="power of two"):
        PacketRing(9)


def test_missing_packets_are_asked_for_after_a_moment_again_later_and_given_up() -> None:
    missing = MissingPackets()
    missing.arrived(10, 9, 0.0)
    missing.arrived(13, 10, 0.0)
    assert missing.due(0.001, None) == []  # perhaps only out of order
    assert missing.due(0.005, None) == [11, 12]
    assert missing.due(0.006, None) == []
    missing.arrived(11, 13, 0.007)
    assert missing.recovered == 1
    now = 0.0
    asked = 1
    while len(missing):
        now += 0.01
        asked += missing.due(now, None) == [12]
    assert asked <= NACK_MAX_TRIES
    assert (missing.lost, missing.expected, missing.given_up) == (1, 4, True)


def test_how_long_packets_are_out_of_order_is_learned_and_gaps_are_left_alone_that_long() -> None:
    missing = MissingPackets()
    asked, now = 0, 0.0
    for number in range(2, 200, 2):  # each odd one comes 12 ms late, by itself
        missing.arrived(number, number - 2, now)
        asked += len(missing.due(now + 0.011, None))
        missing.arrived(number - 1, number, now + 0.012)
        now += 0.033
    assert 1 <= asked <= 10  # until that was learned
    missing.arrived(202, 200, now)
    assert missing.due(now + 0.013, None) == []
    assert missing.due(now + 0.016, None) == [201]


def test_what_comes_later_than_out_of_order_teaches_no_patience() -> None:
    """A node before us lost it too, and passes it on when it has it again."""
    missing = MissingPackets()
    for number in range(2, 200, 2):
        missing.arrived(number, number - 2, number)
        missing.arrived(number - 1, number, number + 0.06)
    missing.arrived(202, 198, 300.0)
    assert missing.due(300.005, None) == [199, 200, 201]


def test_the_round_trip_is_learned_from_retransmissions_where_nobody_tells_it() -> None:
    missing = MissingPackets()
    missing.arrived(12, 10, 0.0)
    assert missing.due(0.005, None) == [11]
    assert missing.due(0.09, None) == []  # nothing is known: as browsers do
    missing.arrived(11, 12, 0.045, again=True)  # 40 ms after it was asked for
    missing.arrived(14, 12, 1.0)
    assert missing.due(1.005, None) == [13]
    assert missing.due(1.049, None) == []  # its answer may still be on the way
    assert missing.due(1.056, None) == [13]
    assert missing.due(1.2, 0.2) == [13]
    assert missing.due(1.4, 0.2) == []  # who tells it is believed
    missing.reset()  # another publisher, far away perhaps
    missing.arrived(16, 14, 2.0)
    assert missing.due(2.005, None) == [15]
    assert missing.due(2.09, None) == []


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("new"), st.integers(1, 6)),
            st.tuples(st.just("late"), st.integers(1, 8)),
            st.tuples(st.just("wait"), st.integers(1, 100)),
        ),
        max_size=60,
    )
)
def test_who_asks_when_it_is_told_to_is_late_for_no_packet(steps: list[tuple[str, int]]) -> None:
    """`next_due` is never after the first question that is due, and there is always time until the next."""
    missing, newest, now = MissingPackets(), 100, 0.0
    for what, much in steps:
        if what == "new":
            missing.arrived(newest + much, newest, now)
            newest += much
        elif what == "late":
            missing.arrived(newest - much, newest, now)
        else:
            now += much / 1000
        due = missing.next_due()
        assert (due is None) is (len(missing) == 0)
        if due is not None:
            assert due <= min(entry[1] for entry in missing._missing.values())
            if now >= due:
                missing.due(now, None)
                again = missing.next_due()
                assert again is None or again > now


def test_a_huge_gap_is_not_asked_for() -> None:
    missing = MissingPackets()
    missing.arrived(10_000, 1, 0.0)
    assert len(missing) == 0
    assert missing.given_up
    assert missing.lost == 9_998


def test_a_viewer_gets_a_packet_again_once_a_round_trip_and_within_its_budget() -> None:
    budget = ResendBudget()
    assert budget.allow(1, 0.0, 400, 0.1)
    assert not budget.allow(1, 0.05, 400, 0.1)
    assert budget.allow(1, 0.09, 400, 0.1)
    granted = sum(budget.allow(n, 0.1, 400, 0.1) for n in range(100, 1100))
    assert granted < 300
    assert budget.refused > 700
    later = sum(budget.allow(n, 1.1, 400, 0.1) for n in range(2000, 3000))
    assert 90 <= later <= 110  # a quarter of 400 a second


def test_what_a_viewer_was_sent_again_is_not_remembered_for_ever() -> None:
    budget = ResendBudget()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for n in range(3_000):  # ten a second for five minutes
            assert budget.allow(n, n / 10, 400, 0.1)
            assert not budget.allow(n, n / 10 + 0.05, 400, 0.1)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 20_000


def payloads(packets: list[bytes]) -> list[bytes]:
    headers = [parse_header(packet) for packet in packets]
    return [p[h.payload_offset : len(p) - h.padding] for p, h in zip(packets, headers, strict=True)]


def numbered(sizes: list[int]) -> list[bytes]:
    return [
        build(payload_type=0, sequence=n, timestamp=7, ssrc=1, payload=bytes([n + 1]) * (size - 12))
        for n, size in enumerate(sizes)
    ]


@pytest.mark.parametrize(
    ("sizes", "before", "after"),
    [
        ([1170] * 14 + [1162, 1084, 1083], 2, 1),  # two slices, by our own publisher
        ([1181, 1181, 1182, 1182], 2, 1),  # a browser's
        ([1200, 1200, 1199, 1199, 1199], 2, 1),  # aiortc's
        ([1170] * 15 + [700], 1, 1),
        ([1200, 1200, 300, 1200, 1200], 2, 2),  # nothing to gain
        ([40, 1200, 1200], 2, 2),
        ([1000, 1200, 1000, 1200, 1000, 1200], 4, 4),  # too dear
        ([333], 1, 1),
    ],
)
def test_nearly_even_packets_are_padded_into_fewer_runs(sizes: list[int], before: int, after: int) -> None:
    packets = numbered(sizes)
    assert len(runs(packets)) == before
    out = evened(packets)
    assert len(runs(out)) == after
    assert payloads(out) == payloads(packets)
    assert (out is packets) == (before == after)


@given(st.lists(st.integers(20, 1400) | st.integers(1150, 1200), min_size=1, max_size=MAX_BATCH))
def test_evened_packets_say_the_same_in_no_more_runs_and_few_more_bytes(sizes: list[int]) -> None:
    packets = numbered(sizes)
    out = evened(packets)
    assert payloads(out) == payloads(packets)
    assert len(runs(out)) <= len(runs(packets))
    assert sum(map(len, out)) <= 1.02 * sum(sizes)


def test_key_frame_wishes_are_coalesced_and_dropped_when_one_comes() -> None:
    wishes = KeyframeRequests()
    assert wishes.want(0.0)
    assert not wishes.want(0.1)
    assert not wishes.want(0.2)
    assert wishes.deadline() == pytest.approx(0.5)
    assert not wishes.due(0.4)
    assert wishes.due(0.5)
    assert not wishes.want(0.6)
    wishes.arrived(0.7)
    assert wishes.deadline() is None
    assert not wishes.due(1.2)
    assert wishes.want(1.3)


def test_a_source_that_answers_no_request_is_found_out_and_one_that_does_is_not() -> None:
    asked = [float(second) for second in range(20)]
    encoder, file = KeyframeRequests(), KeyframeRequests()
    for at in asked:
        encoder.want(at)
        encoder.arrived(at + 0.09)
        file.want(at)
        if at % 2 == 0:  # its own key frames, every 2 s
            file.arrived(at + 0.9)
        assert not encoder.deaf(at + 1)
        assert file.deaf(at + 1)
    # One of them comes by chance right after a request: it is known better.
    file.want(30.0)
    file.arrived(30.1)
    assert file.deaf(31.0)
    # A source that begins to answer is believed after a while, another source at once.
    for at in (40.0, 41.0, 42.0):
        assert file.deaf(at)
        file.want(at)
        file.arrived(at + 0.1)
    assert not file.deaf(43.0)
    file.want(100.0)
    assert not file.deaf(100.29)
    assert file.deaf(100.31)  # no need to ask again to see that nothing came
    file.reset()
    assert not file.deaf(100.31)


def test_numbers_and_time_go_on_across_a_change_of_source() -> None:
    line = Continuity(90_000, first_number=0x10005, first_timestamp=1_000)
    assert line.map(65_534, 4_000_000_000, 0.0) == 0x10005
    assert line.map(65_535, 4_000_003_000, 0.033) == 0x10006
    assert line.map(1, 4_000_009_000, 0.1) == 0x10008  # 0 is missing: a gap stays a gap
    assert line.map(0, 4_000_006_000, 0.11) == 0x10007  # and is filled late
    assert line.source_sequence(0x10007) == 0
    assert line.timestamp == 1_000 + 9_000
    line.change_source()
    assert line.map(500, 77, 2.1) == 0x10009
    assert line.floor == 0x10009
    assert line.timestamp == 10_000 + 2 * 90_000
    assert line.map(499, 77, 2.1) < line.floor  # a straggler from before its first packet


def test_the_first_frame_of_a_new_source_has_a_timestamp_of_its_own() -> None:
    line = Continuity(90_000, 0x10000, 9_000)
    line.map(1, 0, 1.0)
    before = line.timestamp
    line.change_source()
    line.map(500, 77, 1.0)  # at the very moment of the last one's last packet
    assert line.timestamp != before


def test_a_wish_that_waits_is_due_at_its_deadline_to_the_last_bit() -> None:
    requests = KeyframeRequests()
    asked = 1023.7000000000004  # the deadline lies beyond a power of two, where floats are coarser
    assert (asked + KEYFRAME_INTERVAL) - asked < KEYFRAME_INTERVAL
    assert requests.want(asked)
    assert not requests.want(asked + 0.1)
    deadline = requests.deadline()
    assert deadline is not None
    assert requests.due(deadline)


def test_a_report_passed_on_is_of_the_publishers_clock_as_it_is_now() -> None:
    clock = SenderClock(90_000)
    assert clock.pair(1.0, None) is None
    clock.received(ntp=100 << 32, timestamp=1_000, now=5.0)
    ntp, timestamp = clock.pair(6.5, 0.1) or (0, 0)
    assert ntp / 2**32 == pytest.approx(101.55)
    assert timestamp == 1_000 + 139_500
    clock.received(ntp=(1 << 64) - 1, timestamp=0, now=7.0)
    assert clock.pair(8.0, None) == ((1 << 32) - 1, 90_000)  # 64 bits, whatever a publisher's clock says
    clock.reset()
    assert not clock.known


def test_a_report_block_counts_loss_jitter_and_the_age_of_the_last_sender_report() -> None:
    reception = Reception(7, 90_000)
    assert reception.report(0.0) is None
    for n, sequence in enumerate([65_533, 65_534, 0, 1, 3]):
        header = RtpHeader(96, False, sequence, 3_000 * n, 7, 12, 12, 0)
        reception.packets(header.sequence, header.timestamp, 1, 1.0 + n / 30)
    reception.sender_report(0x0123456789ABCDEF, 2.0)
    report = reception.report(2.5)
    assert report is not None
    assert report.lost == 2
    assert report.fraction_lost == 2 * 256 // 7
    assert report.highest_sequence == 0x10003
    assert report.last_sr == middle(0x0123456789ABCDEF)
    assert report.delay_since_last_sr == 32_768
    again = reception.report(2.6)
    assert again is not None
    assert (again.fraction_lost, again.lost) == (0, 2)
