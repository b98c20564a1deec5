"""A publisher process on air, received and decoded by another implementation over real HTTP and UDP."""

import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from controlplane.wire.processes import read_all, start_time
from controlplane.wire.publishing import PublisherReport, PublishState
from media import timecode
from tests.media.publisher.clips import make_clip
from tests.media.publisher.endpoint import Endpoint, Session
from tests.media.publisher.process import PATIENCE_S, Publisher
from tests.support.wait import wait_for

NTP_EPOCH = 2_208_988_800  # 1900 to 1970, in seconds
SMALL = ("--size", "640x360", "--bitrate", "800k")


@pytest.fixture
async def server() -> AsyncIterator[Endpoint]:
    async with Endpoint() as endpoint:
        yield endpoint


async def pictures(session: Session, more: int) -> None:
    """Wait until a session has decoded so many more pictures."""
    wanted = len(session.pictures) + more
    await wait_for(lambda: len(session.pictures) >= wanted, PATIENCE_S, f"{more} more pictures")


async def sessions(server: Endpoint, count: int) -> Session:
    """Wait for the session of this number, and for its first picture."""
    await wait_for(lambda: len(server.sessions) >= count, PATIENCE_S, f"session {count}")
    session = server.sessions[count - 1]
    await wait_for(lambda: session.pictures, PATIENCE_S, f"a picture of session {count}")
    return session


async def test_what_was_asked_for_is_what_arrives(server: Endpoint) -> None:
    async with Publisher(server.whip, "test", "--bitrate", "4.5M", "--report", server.report) as publisher:
        session = await sessions(server, 1)
        await wait_for(
            lambda: session.rtp[-1][0] - session.rtp[0][0] > 9, PATIENCE_S, "nine seconds of media"
        )
        publisher.signal(signal.SIGTERM)
        assert await publisher.ended() == 0
    assert session.ended_by_delete
    # Bitrate and pictures, by what was received from the third second on.
    start = session.rtp[0][0] + 3
    got = [(size, at) for at, _, size, _ in session.rtp if start <= at < start + 5]
    assert sum(size for size, _ in got) * 8 / 5 == pytest.approx(4.5e6, rel=0.1)
    codes = [seen.code for seen in session.pictures]
    assert codes.count(None) == 0
    assert {seen.shape for seen in session.pictures} == {(1280, 720)}
    # Sound: the beep of each second, over a quiet tone.
    assert max(session.sound) == pytest.approx(0.32, abs=0.05)
    assert np.median(session.sound[50:]) < 0.1
    # What it said of itself.
    states = [line.state for line in publisher.lines]
    assert states[0] is PublishState.STARTING
    assert states[-1] is PublishState.ENDED
    live = [line for line in publisher.lines if line.state is PublishState.LIVE][3:]
    assert np.mean([line.bitrate_bps for line in live]) == pytest.approx(4.5e6, rel=0.1)
    assert all(line.rtt_ms is not None for line in live)
    # The reports.
    reports = [PublisherReport.model_validate(report) for report in server.published]
    assert reports[-1].line.state is PublishState.ENDED
    on_air = next(report for report in reversed(reports) if report.line.state is PublishState.LIVE)
    assert (on_air.session, on_air.source, on_air.width, on_air.target_bps) == (
        session.id,
        "test",
        1280,
        4.5e6,
    )
    # The clock in the sender reports is the one in the pictures: extrapolated to the last picture's timestamp
    # it gives the moment that is drawn into it.
    ssrc = session.receivers["video"]._RTCRtpReceiver__remote_streams.keys()
    video = next(number for number in ssrc if number in session.reports)
    ntp, rtp = session.reports[video][-1]
    timestamps = list(dict.fromkeys(stamp for _, number, _, stamp in session.rtp if number == video))
    assert len(session.reports[video]) > 5
    steps = np.diff(timestamps) % 2**32
    assert set(steps.tolist()) <= {3000 * n for n in range(1, 60)}
    newest = max(code for code in codes if code is not None)
    moment = ntp / 2**32 - NTP_EPOCH
    errors = [
        timecode.age_ms(newest, moment + ((stamp - rtp + 2**31) % 2**32 - 2**31) / 90_000)
        for stamp in timestamps[-12:]
    ]
    assert min(abs(error) for error in errors) <= 3


async def test_a_key_frame_comes_when_it_is_asked_for(server: Endpoint) -> None:
    async with Publisher(server.whip, "test", *SMALL, "--fps", "20") as publisher:
        session = await sessions(server, 1)
        await pictures(session, 30)
        # Key frames come once a second, every 20 pictures: one that was asked for comes in between.
        for _ in range(6):
            await session.ask_key_frame()
            await pictures(session, 13)
        keys = [number for number, seen in enumerate(session.pictures) if seen.key]
        assert min(np.diff(keys)) < 20
        publisher.signal(signal.SIGINT)
        assert await publisher.ended() == 0


async def test_a_killed_encoder_is_replaced_and_the_connection_does_not_notice(
    server: Endpoint, tmp_path: Path
) -> None:
    async with Publisher(server.whip, "test", *SMALL, run_dir=tmp_path) as publisher:
        session = await sessions(server, 1)
        first = await publisher.encoder()
        os.kill(first, signal.SIGKILL)
        await wait_for(
            lambda: [r for r in read_all(tmp_path / "processes") if r.pid != first], PATIENCE_S, "another"
        )
        second = await publisher.encoder()
        assert second != first
        await pictures(session, 40)
        assert server.posts == 1
        # Its clock went on: the codes rise, and by as much as the timestamps.
        codes = [seen.code for seen in session.pictures if seen.code is not None]
        assert codes == sorted(codes)
        publisher.signal(signal.SIGTERM)
        assert await publisher.ended() == 0
    assert read_all(tmp_path / "processes") == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_a_signal_ends_it_cleanly(server: Endpoint, tmp_path: Path, number: signal.Signals) -> None:
    async with Publisher(server.whip, "test", *SMALL, run_dir=tmp_path, json_lines=False) as publisher:
        session = await sessions(server, 1)
        encoder = await publisher.encoder()
        publisher.signal(number)
        assert await publisher.ended() == 0
        assert session.ended_by_delete
        assert session.why == ""
        assert start_time(encoder) is None
        assert "ended" in publisher.text[-1]
        assert publisher.stderr == ""


async def test_a_lost_connection_is_made_again_and_the_encoder_goes_on(
    server: Endpoint, tmp_path: Path
) -> None:
    async with Publisher(server.whip, "test", *SMALL, run_dir=tmp_path) as publisher:
        session = await sessions(server, 1)
        encoder = await publisher.encoder()
        for number in (2, 3):
            await session.pc.close()
            session = await sessions(server, number)
            assert session.pictures[0].key
        assert await publisher.encoder() == encoder
        assert not any(session.ended_by_delete for session in server.sessions)
        publisher.signal(signal.SIGTERM)
        assert await publisher.ended() == 0
        assert publisher.stderr.count("Publishing again: ") == 2
        assert PublishState.RECONNECTING not in (publisher.lines[0].state, publisher.lines[-1].state)


async def test_a_server_that_is_away_is_asked_until_it_is_back(server: Endpoint) -> None:
    async with Publisher(server.whip, "test", *SMALL) as publisher:
        session = await sessions(server, 1)
        server.refuse = (502, {"code": "away", "title": "Bad gateway"})
        asked = server.posts
        await session.pc.close()
        await wait_for(lambda: server.posts >= asked + 4, PATIENCE_S, "more attempts")
        assert publisher.process.returncode is None
        server.refuse = None
        await sessions(server, 2)
        publisher.signal(signal.SIGTERM)
        assert await publisher.ended() == 0
    assert PublishState.RECONNECTING in [line.state for line in publisher.lines]
    assert publisher.stderr.count("Publishing again: ") == 1


async def test_a_dead_server_is_noticed_by_its_silence(server: Endpoint) -> None:
    async with Publisher(server.whip, "test", *SMALL) as publisher:
        session = await sessions(server, 1)
        for receiver in session.pc.getReceivers():  # no more receiver reports, but the sockets stay
            receiver._RTCRtpReceiver__rtcp_task.cancel()
        server.decode = False
        await sessions_without_pictures(server, 2)
        publisher.signal(signal.SIGTERM)
        assert await publisher.ended() == 0


async def sessions_without_pictures(server: Endpoint, count: int) -> None:
    await wait_for(lambda: len(server.sessions) >= count, PATIENCE_S, f"session {count}")


async def test_it_publishes_again_when_it_is_told_to(server: Endpoint) -> None:
    async with Publisher(server.whip, "test", *SMALL, "--report", server.report) as publisher:
        await sessions(server, 1)
        server.order = {"action": "reconnect", "reason": "origin-1 is gone"}
        await sessions_without_pictures(server, 2)
        server.order = {"action": "continue"}
        # A slow machine may have been told twice meanwhile: it is the newest session that plays.
        await wait_for(lambda: server.sessions[-1].pictures, PATIENCE_S, "a picture of the newest session")
        publisher.signal(signal.SIGTERM)
        assert await publisher.ended() == 0


async def test_an_order_to_stop_ends_it_and_it_says_who_did(server: Endpoint) -> None:
    async with Publisher(
        server.whip, "test", *SMALL, "--report", server.report, json_lines=False
    ) as publisher:
        await sessions(server, 1)
        server.order = {"action": "stop", "reason": "the broadcast was stopped by an operator"}
        assert await publisher.ended() == 0
        assert "ended by the stream manager (the broadcast was stopped by an operator)" in publisher.stderr


@pytest.mark.parametrize("status", [401, 403])
async def test_a_token_no_longer_taken_ends_a_broadcast_that_was_live(server: Endpoint, status: int) -> None:
    async with Publisher(server.whip, "test", *SMALL) as publisher:
        session = await sessions(server, 1)
        server.refuse = (
            status,
            {"code": "token_revoked", "title": "No", "detail": "The broadcast was stopped."},
        )
        await session.pc.close()
        assert await publisher.ended() == 0
        assert publisher.lines[-1].state is PublishState.ENDED
        assert "ended by the stream manager (The broadcast was stopped)" in publisher.stderr
        assert "Publishing again" not in publisher.stderr


async def test_ctrl_c_while_its_encoder_loads_is_quiet(server: Endpoint, tmp_path: Path) -> None:
    async with Publisher(server.whip, "test", run_dir=tmp_path) as publisher:
        encoder = await publisher.encoder()
        publisher.interrupt()
        assert await publisher.ended() == 0
    assert "Traceback" not in publisher.stderr
    assert start_time(encoder) is None


async def test_reports_that_are_not_taken_do_not_end_it(server: Endpoint) -> None:
    async with Publisher(server.whip, "test", *SMALL, "--report", f"{server.base}/nowhere") as publisher:
        session = await sessions(server, 1)
        await pictures(session, 60)
        publisher.signal(signal.SIGTERM)
        assert await publisher.ended() == 0


async def test_a_file_is_played_to_its_end(server: Endpoint, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", seconds=3.0)
    async with Publisher(server.whip, str(clip), "--bitrate", "1M", "--report", server.report) as publisher:
        session = await sessions(server, 1)
        assert await publisher.ended() == 0
        assert session.ended_by_delete
        assert session.why == "source_over"
        assert len(session.pictures) == pytest.approx(75, abs=4)
        assert publisher.lines[-1].state is PublishState.ENDED
    last = PublisherReport.model_validate(server.published[-1])
    assert last.source == "clip.mp4"
    assert last.duration_s == pytest.approx(3.0)


async def test_a_loop_goes_round_and_round(server: Endpoint, tmp_path: Path) -> None:
    """Several rounds on air: no gap between them, and the bitrate is held although the clip is simple."""
    clip = make_clip(tmp_path / "clip.mp4", seconds=1.2, sound_seconds=1.31)
    async with Publisher(server.whip, str(clip), "--loop", "--bitrate", "1.5M") as publisher:
        session = await sessions(server, 1)
        await wait_for(
            lambda: session.rtp[-1][0] - session.rtp[0][0] > 8, PATIENCE_S, "eight seconds of media"
        )
        publisher.signal(signal.SIGTERM)
        assert await publisher.ended() == 0
    assert session.bitrate(4) == pytest.approx(1.5e6, rel=0.1)
    video = max(
        {ssrc for _, ssrc, _, _ in session.rtp}, key=lambda s: sum(x[2] for x in session.rtp if x[1] == s)
    )
    stamps = sorted({stamp for _, ssrc, _, stamp in session.rtp if ssrc == video})
    assert np.diff(stamps).max() <= 3 * 3600


async def test_a_file_is_sent_as_it_is(server: Endpoint, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", seconds=2.0, gop=25)
    async with Publisher(server.whip, str(clip), "--copy", "--loop", "--report", server.report) as publisher:
        session = await sessions(server, 1)
        await pictures(session, 100)
        publisher.signal(signal.SIGTERM)
        assert await publisher.ended() == 0
    keys = [number for number, seen in enumerate(session.pictures) if seen.key]
    assert keys[:3] == [0, 25, 50]
    assert PublisherReport.model_validate(server.published[-1]).copy_mode


async def test_its_offer_is_for_anyone(server: Endpoint) -> None:
    """H.264 constrained baseline first, Opus, sendonly, loopback among the candidates, no STUN server."""
    async with Publisher(server.whip, "test", *SMALL) as publisher:
        session = await sessions(server, 1)
        publisher.signal(signal.SIGTERM)
        assert await publisher.ended() == 0
    offer = session.offer
    profiles = [line for line in offer.splitlines() if "profile-level-id" in line]
    assert "42e01f" in profiles[0]
    assert "VP8" not in offer
    assert "opus/48000/2" in offer
    assert offer.count("a=sendonly") == 2
    assert " 127.0.0.1 " in offer
    assert "typ srflx" not in offer


async def test_when_nobody_reads_its_lines_it_stays_on_air(server: Endpoint) -> None:
    async with Publisher(server.whip, "test", *SMALL) as publisher:
        session = await sessions(server, 1)
        publisher.process._transport.get_pipe_transport(1).close()  # type: ignore[attr-defined]
        began = time.time()
        await wait_for(lambda: "nobody reads" in publisher.stderr, PATIENCE_S, "a word about it")
        await pictures(session, 30)
        newest = session.pictures[-1].code
        assert newest is not None
        assert timecode.age_ms(newest, began) < 0
        publisher.signal(signal.SIGTERM)
        assert await publisher.ended() == 0
