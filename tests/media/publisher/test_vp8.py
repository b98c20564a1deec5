"""Publishing VP8: the encoder's rate and key frames, its packets, and a whole publisher on air."""

import re
import signal
from collections.abc import AsyncIterator, Iterable

import av
import numpy as np
import pytest
from aiortc.codecs.vpx import vp8_depayload
from hypothesis import given
from hypothesis import strategies as st

from media import timecode
from media.core import vp8
from media.publisher.encoder.pace import rtp_bytes
from media.publisher.encoder.vp8 import Vp8Encoder
from media.publisher.packets import MAX_PAYLOAD, vp8_payloads
from media.publisher.sources.pattern import TestPattern
from tests.media.publisher.endpoint import Endpoint
from tests.media.publisher.process import PATIENCE_S, Publisher
from tests.media.publisher.test_on_air import pictures, sessions
from tests.support.wait import wait_for

FPS = 30


def coded(
    encoder: Vp8Encoder, frames: Iterable[av.VideoFrame], asked: frozenset[int] = frozenset()
) -> list[tuple[bytes, bool]]:
    return [encoder.encode(frame, number / FPS, number in asked) for number, frame in enumerate(frames)]


def pattern(width: int, height: int, seconds: float) -> list[av.VideoFrame]:
    drawn = TestPattern(width, height, fps=FPS)
    frames = []
    for number in range(round(seconds * FPS)):
        frame = drawn.picture(0).make(1_700_000_000 + number / FPS)
        assert isinstance(frame, av.VideoFrame)
        frames.append(frame.reformat(format="yuv420p16le").reformat(format="yuv420p"))  # a copy of its own
    return frames


def plain(width: int, height: int, level: int) -> av.VideoFrame:
    frame = av.VideoFrame(width, height, "yuv420p")
    for plane in frame.planes:
        plane.update(bytes([level]) * plane.buffer_size)
    return frame


def decoded(frames: list[bytes]) -> list[av.VideoFrame]:
    decoder = av.CodecContext.create("libvpx", "r")
    shown: list[av.VideoFrame] = []
    for data in frames:
        shown += decoder.decode(av.Packet(data))
    return shown


@pytest.mark.parametrize(("size", "target"), [((640, 360), 800e3), ((1280, 720), 4.5e6)])
def test_the_pattern_keeps_the_rate_and_has_a_key_frame_a_second(
    size: tuple[int, int], target: float
) -> None:
    done = coded(Vp8Encoder(*size, fps=FPS, target_bps=target), pattern(*size, 6))
    assert [key for _, key in done] == [number % FPS == 0 for number in range(len(done))]
    for second in range(6):
        part = done[second * FPS : (second + 1) * FPS]
        assert sum(rtp_bytes(len(data)) for data, _ in part) * 8 == pytest.approx(target, rel=0.1)
    for data, key in done:
        assert vp8.is_keyframe_start(b"\x10" + data) == key


def test_the_pictures_are_those_of_another_decoder_and_their_time_code_is_read() -> None:
    frames = pattern(640, 360, 2)
    shown = decoded([data for data, _ in coded(Vp8Encoder(640, 360, FPS, 1e6), frames)])
    codes = [timecode.read(frame.to_ndarray()[:360]) for frame in shown]
    assert codes == [timecode.code_of(1_700_000_000 + number / FPS) for number in range(2 * FPS)]


def test_a_plain_picture_is_filled_up_and_decodes_as_if_it_were_not() -> None:
    levels = [60 + number % 90 for number in range(4 * FPS)]
    done = coded(Vp8Encoder(640, 360, FPS, 2e6), (plain(640, 360, level) for level in levels))
    for second in (2, 3):
        part = done[second * FPS : (second + 1) * FPS]
        assert sum(rtp_bytes(len(data)) for data, _ in part) * 8 == pytest.approx(2e6, rel=0.06)
    assert max(len(data) for data, _ in done) > 2 * len(done[0][0].rstrip(b"\0"))  # there is filler
    shown = decoded([data for data, _ in done])
    assert len(shown) == len(levels)
    for frame, level in zip(shown, levels, strict=True):
        assert np.abs(frame.to_ndarray()[:360].astype(int) - level).max() <= 12


def test_a_key_frame_comes_when_it_is_asked_for_and_the_next_a_second_later() -> None:
    done = coded(Vp8Encoder(640, 360, FPS, 1e6), pattern(640, 360, 3), asked=frozenset({40}))
    assert [number for number, (_, key) in enumerate(done) if key] == [0, 30, 40, 70]


def test_another_bitrate_takes_effect_with_the_next_key_frame_and_makes_none_of_its_own() -> None:
    encoder = Vp8Encoder(1280, 720, FPS, 4.5e6)
    sent = []
    for number, frame in enumerate(pattern(1280, 720, 7)):
        if number == 2 * FPS + 10:
            encoder.set_bitrate(2e6)
        if number == 5 * FPS + 10:
            encoder.set_bitrate(3e6)
        data, key = encoder.encode(frame, number / FPS, key=False)
        assert key == (number % FPS == 0)
        sent.append(rtp_bytes(len(data)))
    for second, target in ((1, 4.5e6), (3, 2e6), (4, 2e6), (6, 3e6)):
        assert sum(sent[second * FPS : (second + 1) * FPS]) * 8 == pytest.approx(target, rel=0.1)


def test_a_hard_cut_leaves_no_picture_out() -> None:
    random = np.random.default_rng(2)
    scenes = [np.kron(random.integers(90, 150, (45, 80)), np.ones((8, 8))).astype(np.uint8) for _ in "ab"]
    frames = []
    for number in range(3 * FPS):
        luma = np.roll(scenes[number * 2 // (3 * FPS)], 2 * number, axis=1)  # the cut is in the middle
        planes = np.vstack([luma, np.full((180, 640), 128, np.uint8)])
        frames.append(av.VideoFrame.from_ndarray(planes, format="yuv420p"))
    done = coded(Vp8Encoder(640, 360, FPS, 1.5e6), frames)
    sizes = [len(data) for data, _ in done]
    assert sizes[45] > 4 * 1.5e6 / 8 / FPS  # it is dear
    assert min(sizes) > 0


def test_what_even_the_coarsest_quantiser_makes_too_large_is_left_out() -> None:
    random = np.random.default_rng(1)
    frames = []
    for _ in range(4 * FPS):
        frame = av.VideoFrame(640, 360, "yuv420p")
        for plane in frame.planes:
            plane.update(random.integers(0, 255, plane.buffer_size, dtype=np.uint8).tobytes())
        frames.append(frame)
    done = coded(Vp8Encoder(640, 360, FPS, 500e3), frames)
    assert any(not data and not key for data, key in done)
    assert all(key for data, key in done[:1])
    sent = sum(rtp_bytes(len(data)) for data, _ in done[FPS:]) * 8 / 3
    assert sent < 2 * 500e3  # and not the forty-fold of it that such pictures take
    assert len(decoded([data for data, _ in done if data])) == sum(bool(data) for data, _ in done)


@given(st.integers(1, 100_000))
def test_pieces_are_of_one_size_fit_and_are_read_back(size: int) -> None:
    frame = (bytes(range(256)) * (size // 256 + 1))[:size]
    parts = vp8_payloads(frame)
    assert b"".join(vp8_depayload(part) for part in parts) == frame
    assert all(1 < len(part) <= MAX_PAYLOAD for part in parts)
    assert len({len(part) for part in parts[:-1]}) <= 1
    assert len(parts[-1]) <= len(parts[0])
    assert [part[0] & 0x10 for part in parts] == [0x10] + [0] * (len(parts) - 1)


def test_nothing_makes_no_packet() -> None:
    assert vp8_payloads(b"") == []


@pytest.fixture
async def server() -> AsyncIterator[Endpoint]:
    async with Endpoint() as endpoint:
        yield endpoint


async def test_it_publishes_vp8_and_what_was_asked_for_arrives(server: Endpoint) -> None:
    async with Publisher(server.whip, "test", "--codec", "vp8", "--size", "640x360", "--bitrate", "1M") as it:
        session = await sessions(server, 1)
        assert "VP8/90000" in session.offer
        assert "H264" not in session.offer
        await wait_for(
            lambda: session.rtp[-1][0] - session.rtp[0][0] > 7, PATIENCE_S, "seven seconds of media"
        )
        start = session.rtp[0][0] + 2
        got = [size for at, _, size, _ in session.rtp if start <= at < start + 5]
        assert sum(got) * 8 / 5 == pytest.approx(1e6, rel=0.1)
        assert [seen.code for seen in session.pictures].count(None) == 0
        assert {seen.shape for seen in session.pictures} == {(640, 360)}
        for _ in range(4):
            await session.ask_key_frame()
            await pictures(session, 20)
        # A key frame a second by itself: one that was asked for comes in between.
        offered = re.findall(r"a=rtpmap:(\d+) VP8", session.offer)
        firsts = [head for kind, head in session.heads if str(kind) in offered and head[0] & 0x10]
        keys = [number for number, head in enumerate(firsts) if vp8.is_keyframe_start(head)]
        assert min(np.diff(keys)) < FPS
        it.signal(signal.SIGTERM)
        assert await it.ended() == 0
    assert session.ended_by_delete
