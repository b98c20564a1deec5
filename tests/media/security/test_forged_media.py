"""SRTP is authenticated, and told from a replay, before anything is learned from it or counted."""

import os

from tests.media.security.stand import Show, spray, until

BAD_TAGS = 100_000
A_SECOND = 12_000
COPIES = 5
FRAMES = 150


def forgery(genuine: bytes, number: int) -> bytes:
    """A packet of the publisher's with the next sequence numbers and a tag that does not fit."""
    sequence = int.from_bytes(genuine[2:4], "big") + number % 50
    header = genuine[:2] + (sequence & 0xFFFF).to_bytes(2, "big") + genuine[4:12]
    return header + os.urandom(40) if number % 2 else genuine[:-4] + os.urandom(4)


async def test_a_hundred_thousand_bad_tags_from_the_publishers_own_address(show: Show) -> None:
    viewer = await show.viewer()
    publisher, loss_before = show.publisher, show.publisher.key_frames_asked

    def send(number: int) -> None:
        publisher.send(forgery(publisher.protected[-1], number), show.worker.address)

    await show.worker.report()  # rates are since the last one
    first = publisher.marks
    assert await spray(send, BAD_TAGS, A_SECOND) == BAD_TAGS
    last = publisher.marks - 1
    await until(lambda: viewer.seen_marks[-1] > last, "the picture goes on")
    seen = [mark for mark in viewer.seen_marks if first <= mark <= last]
    assert len(seen) == len(set(seen))
    assert len(seen) >= 0.999 * (last - first + 1)
    assert last - first > 500
    assert publisher.key_frames_asked == loss_before
    (stream,) = (await show.worker.report())["streams"]
    assert stream["state"] == "live"
    assert stream["fps"] < 40
    assert stream["bitrate_bps"] < 2e6, "a seventieth of it is media"


async def test_bad_tags_from_a_viewers_own_address_cost_it_nothing(show: Show) -> None:
    viewer = await show.viewer()
    outbound = viewer.session.outbound if viewer.session is not None else None
    assert outbound is not None
    report = outbound.protect_rtcp(b"\x81\xce\x00\x02" + bytes(8))  # a PLI
    await spray(lambda number: viewer.send(report[:-8] + os.urandom(8), show.worker.address), 10_000, 10_000)
    row = await show.worker.row(viewer.name)
    assert (row["plis"], row["state"]) == (0, "connected")
    assert await show.nothing_lost(viewer)


async def test_what_is_sent_five_times_is_forwarded_once(show: Show) -> None:
    viewer, publisher = await show.viewer(), show.publisher
    await show.nothing_lost(viewer)
    begun, first = len(viewer.rtp), publisher.marks
    for _ in range(FRAMES):
        frame = publisher.frame()
        for packet in frame * COPIES:
            publisher.send(packet, show.worker.address)
        await until(lambda: viewer.seen_marks[-1] == publisher.marks - 1, "the frame has come")
    assert viewer.seen_marks[-(publisher.marks - first) :] == list(range(first, publisher.marks))
    packets = FRAMES * 4
    assert publisher.marks - first <= len(viewer.rtp) - begun <= packets
    for old in publisher.protected[-200:]:  # and long after
        publisher.send(old, show.worker.address)
    for packet in publisher.frame():
        publisher.send(packet, show.worker.address)
    await until(lambda: viewer.seen_marks[-1] == publisher.marks - 1, "the next frame has come")
    assert viewer.seen_marks[-(publisher.marks - first) :] == list(range(first, publisher.marks))
