"""Files sent as they are: which are taken, and that they come out bit for bit."""

import subprocess
from pathlib import Path
from typing import Any

import av
import pytest

from media.fanout.ring import PacketRing
from media.publisher import annexb
from media.publisher.packets import payloads
from media.publisher.sources import passthrough
from media.publisher.sources.file import FileSource
from media.publisher.sources.open import check_words, open_source
from media.publisher.sources.passthrough import Passthrough
from media.publisher.sources.port import CodedPicture, EndOfSource, SourceRejected
from tests.media.publisher.clips import make_clip
from tests.support.need import need

B_FRAMES = {"preset": "medium", "x264-params": "b-adapt=0:scenecut=0"}


def _pictures(
    path: Path, loop: bool = False, begin: float = 0.0, count: int = 10_000
) -> list[tuple[float, CodedPicture]]:
    source = FileSource(path, loop, Passthrough(), begin)
    out = []
    try:
        while len(out) < count:
            picture = source.picture(20.0)
            assert picture is not None, "the source stands still"
            made = picture.make(0.0)
            assert isinstance(made, CodedPicture)
            out.append((picture.at, made))
    except EndOfSource:
        pass
    finally:
        source.close()
    return out


@pytest.mark.parametrize("name", ["clip.mp4", "clip.ts", "clip.mkv"])
def test_every_picture_is_sent_as_it_is(tmp_path: Path, name: str) -> None:
    clip = make_clip(tmp_path / name, seconds=2.0, gop=25)
    pictures = _pictures(clip)
    assert [at for at, _ in pictures] == pytest.approx([n / 25 for n in range(50)], abs=0.001)
    assert [n for n, (_, picture) in enumerate(pictures) if picture.key] == [0, 25]
    for _, picture in pictures:
        kinds = annexb.types(picture.data)
        assert not picture.key or {annexb.SPS, annexb.PPS, annexb.IDR} <= kinds
    decoder = av.CodecContext.create("h264", "r")
    decoded = [frame for _, picture in pictures for frame in decoder.decode(av.Packet(picture.data))]
    decoded += decoder.decode(None)
    with av.open(str(clip)) as container:
        wanted = [frame.to_ndarray() for frame in container.decode(video=0)]
    assert len(decoded) == len(wanted) == 50
    assert all((frame.to_ndarray() == other).all() for frame, other in zip(decoded, wanted, strict=True))


def test_a_loop_begins_each_round_with_a_key_frame(tmp_path: Path) -> None:
    pictures = _pictures(make_clip(tmp_path / "clip.mp4", seconds=1.0, gop=25), loop=True, count=75)
    assert [round(at * 25) for at, picture in pictures if picture.key] == [0, 25, 50]
    assert [round(at * 25) for at, _ in pictures] == list(range(75))


def test_it_goes_on_with_a_key_frame(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", seconds=2.0, gop=10)
    first_at, first = _pictures(clip, loop=True, begin=2.9, count=1)[0]
    assert first.key
    assert first_at == pytest.approx(3.2, abs=0.01)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"b_frames": 2, "options": B_FRAMES}, "it has B-frames"),
        (
            {"seconds": 12.0, "gop": 500, "size": (160, 90)},
            "after 0 s it has no key frame for more than 10 s",
        ),
        ({"codec": "mpeg4", "options": {}}, "its video is mpeg4, not H.264"),
        ({"pixels": "yuv420p10le"}, "8-bit"),
    ],
)
def test_what_a_live_viewer_cannot_take_is_refused(tmp_path: Path, settings: dict, words: str) -> None:  # type: ignore[type-arg]
    clip = make_clip(tmp_path / "clip.mp4", **settings)
    with pytest.raises(SourceRejected, match=words) as caught:
        FileSource(clip, False, Passthrough())
    assert "--copy" in caught.value.next_step


def test_a_group_of_pictures_that_a_node_cannot_keep_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert PacketRing().capacity > passthrough.MAX_GROUP_PACKETS
    clip = make_clip(tmp_path / "clip.mp4", seconds=3.0, gop=250)
    packets = sum(len(payloads(picture.data)) for _, picture in _pictures(clip))
    monkeypatch.setattr(passthrough, "MAX_GROUP_PACKETS", packets)
    FileSource(clip, False, Passthrough()).close()
    monkeypatch.setattr(passthrough, "MAX_GROUP_PACKETS", packets - 1)
    with pytest.raises(SourceRejected, match=r"no key frame within .* MB \(3.0 s\)"):
        FileSource(clip, False, Passthrough())


def test_key_frames_far_apart_are_taken_and_told(tmp_path: Path) -> None:
    source = FileSource(make_clip(tmp_path / "clip.mp4", seconds=6.0, gop=125), False, Passthrough())
    source.close()
    assert "up to 5.0 s from one key frame to the next" in source.info.note
    source = FileSource(make_clip(tmp_path / "near.mp4", seconds=3.0, gop=25), False, Passthrough())
    source.close()
    assert source.info.note == ""


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("full colour.mp4", {"pixels": "yuv444p"}),
        ("it's 10 bits.mp4", {"pixels": "yuv420p10le"}),
        ("-as-it-is.mp4", {"b_frames": 2, "options": B_FRAMES}),
        ("converted.mp4", {"codec": "mpeg4", "options": {}}),
    ],
)
def test_the_command_that_is_advised_makes_a_file_that_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, settings: dict[str, Any]
) -> None:
    need("ffmpeg")
    (tmp_path / "films").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "films")
    make_clip(tmp_path / "films" / name, **settings)
    with pytest.raises(SourceRejected) as caught:
        FileSource(Path(name), False, Passthrough())
    monkeypatch.chdir(tmp_path / "here")  # from anywhere
    command = caught.value.next_step.partition("convert it once: ")[2]
    done = subprocess.run(command, shell=True, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (made,) = (tmp_path / "here").iterdir()
    source = FileSource(made, False, Passthrough())
    source.close()
    assert source.info.copy


def test_a_profile_browsers_may_not_play_is_mentioned(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", options={"preset": "medium", "profile": "high"}, gop=25)
    source = FileSource(clip, False, Passthrough())
    source.close()
    assert "High" in source.info.note


def test_a_header_that_announces_b_frames_where_there_are_none_is_mentioned(tmp_path: Path) -> None:
    """Decoders hold pictures back for what the header announces."""
    clip = make_clip(tmp_path / "clip.mp4", b_frames=2, options={"preset": "medium"}, gop=25)
    source = FileSource(clip, False, Passthrough())
    source.close()
    assert "announces B-frames" in source.info.note


def test_addresses_are_refused_with_a_way_out() -> None:
    with pytest.raises(SourceRejected, match="without SRT") as srt:
        check_words("srt://camera:9000", copy=False)
    assert "ffmpeg -i 'srt://camera:9000'" in srt.value.next_step
    with pytest.raises(SourceRejected, match="rtmp:// addresses cannot be published yet"):
        check_words("rtmp://somewhere/live", copy=False)
    with pytest.raises(SourceRejected, match="nothing to copy"):
        open_source({"source": "test", "copy": True, "size": None, "fps": None, "loop": False, "begin": 0})
