"""What a publisher says, and how it exits, when the broadcast cannot be: nothing is published before."""

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from controlplane.wire.publishing import PublishState
from tests.media.publisher.clips import make_clip
from tests.media.publisher.endpoint import Endpoint
from tests.media.publisher.process import Publisher


@pytest.fixture
async def server() -> AsyncIterator[Endpoint]:
    async with Endpoint() as endpoint:
        yield endpoint


@pytest.mark.parametrize(
    ("status", "problem", "words", "step"),
    [
        (
            401,
            {"code": "bad_token", "title": "Unauthorized"},
            "token is not accepted",
            "showcaller token create",
        ),
        (
            403,
            {"code": "wrong_channel", "title": "Forbidden"},
            "not for this channel",
            "showcaller token create",
        ),
        (404, {"code": "not_found", "title": "Not found"}, "nothing to publish to", "Check the address"),
        (
            409,
            {"code": "channel_on_air", "title": "On air", "detail": "main is on air from OBS."},
            "already on air: main is on air from OBS",
            "showcaller streams stop",
        ),
        (418, {}, "the server answered 418", "log"),
    ],
)
async def test_a_server_that_refuses(
    server: Endpoint, status: int, problem: dict[str, str], words: str, step: str
) -> None:
    server.refuse = (status, problem)
    async with Publisher(server.whip, "test") as publisher:
        error = await publisher.error()
        assert publisher.process.returncode == 1
    assert words in error["what"]
    assert step in error["next"]
    assert error["exit"] == 1
    assert publisher.lines[-1].state is PublishState.FAILED


async def test_a_wrong_token(server: Endpoint) -> None:
    async with Publisher(server.whip, "test", token="something else", json_lines=False) as publisher:
        assert await publisher.ended() == 1
    assert publisher.stderr.startswith("error: the publish token is not accepted")
    assert publisher.stderr.count("\n") == 1


async def test_nobody_there() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        async with Publisher(f"http://127.0.0.1:{port}/whip/main", "test") as publisher:
            error = await publisher.error()
            assert publisher.process.returncode == 3
    assert f"nobody answers at 127.0.0.1:{port}" in error["what"]
    assert "showcaller stage up" in error["next"]


async def test_no_answer(server: Endpoint) -> None:
    server.silent = True
    async with Publisher(server.whip, "test") as publisher:
        error = await publisher.error()
        assert publisher.process.returncode == 4
    assert "did not answer within" in error["what"]


async def test_what_is_no_whip_server() -> None:
    async def rude(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 smtp.example ESMTP\r\n")
        writer.close()

    async with await asyncio.start_server(rude, "127.0.0.1", 0) as listener:
        port = listener.sockets[0].getsockname()[1]
        async with Publisher(f"http://127.0.0.1:{port}/whip/main", "test") as publisher:
            error = await publisher.error()
            assert publisher.process.returncode == 3
    assert "does not speak HTTP" in error["what"]


async def test_a_server_with_no_room_yet_is_asked_again(server: Endpoint) -> None:
    server.refuse = (503, {"code": "no_room", "title": "No origin in service"})
    async with Publisher(server.whip, "test") as publisher:
        error = await publisher.error()
        assert publisher.process.returncode == 1
    assert server.posts > 3
    assert "no origin has room" in error["what"]


@pytest.mark.parametrize(
    ("source", "flags", "code", "words"),
    [
        ("missing.mp4", (), 1, "there is no file"),
        ("", (), 2, "no source was given"),
        (".", (), 1, "is a folder"),
        ("notes.txt", (), 1, "is not a video file"),
        ("tone.mka", (), 1, "has sound but no video"),
        ("long-gop.mp4", ("--copy",), 1, "no key frame for more than 10 s"),
        ("srt://camera:9000", (), 1, "without SRT"),
        ("rtmp://camera/live", (), 1, "cannot be published yet"),
        ("test", ("--bitrate", "0"), 2, "sends nothing"),
        ("test", ("--bitrate", "-4M"), 2, "sends nothing"),
        ("test", ("--bitrate", "fast"), 2, "is not a bitrate"),
        ("test", ("--copy",), 1, "nothing to copy"),
    ],
)
async def test_bad_input_is_told_before_anything_is_published(
    server: Endpoint, tmp_path: Path, source: str, flags: tuple[str, ...], code: int, words: str
) -> None:
    (tmp_path / "notes.txt").write_text("no film\n" * 100)
    if source == "long-gop.mp4":
        make_clip(tmp_path / source, seconds=12, gop=500)
    if source == "tone.mka":
        clip = make_clip(tmp_path / "clip.mkv", seconds=0.4)
        _sound_only(clip, tmp_path / source)
    if "://" not in source and source not in ("test", ""):
        source = f"{tmp_path}/{source}"
    async with Publisher(server.whip, source, *flags) as publisher:
        error = await publisher.error()
        assert publisher.process.returncode == code
    assert words in error["what"]
    assert error["next"]
    assert server.posts == 0
    assert "Traceback" not in publisher.stderr


def _sound_only(film: Path, target: Path) -> None:
    import av

    with av.open(str(film)) as source, av.open(str(target), "w", format="matroska") as out:
        sound = source.streams.audio[0]
        copy = out.add_stream_from_template(sound)
        for packet in source.demux(sound):
            if packet.dts is not None:
                packet.stream = copy
                out.mux(packet)
