"""Files sent as they are: which are taken, and that they come out bit for bit."""

from pathlib import Path

import av
import pytest

from media.publisher import annexb
from media.publisher.sources.file import FileSource
from media.publisher.sources.open import check_words, open_source
from media.publisher.sources.passthrough import Passthrough
from media.publisher.sources.port import CodedPicture, EndOfSource, SourceRejected
from tests.media.publisher.clips import make_clip

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
        ({"seconds": 4.0, "gop": 250}, "no key frame for more than 2 s"),
        ({"codec": "mpeg4", "options": {}}, "its video is mpeg4, not H.264"),
        ({"pixels": "yuv420p10le"}, "8-bit"),
    ],
)
def test_what_a_live_viewer_cannot_take_is_refused(tmp_path: Path, settings: dict, words: str) -> None:  # type: ignore[type-arg]
    clip = make_clip(tmp_path / "clip.mp4", **settings)
    with pytest.raises(SourceRejected, match=words) as caught:
        FileSource(clip, False, Passthrough())
    assert "--copy" in caught.value.next_step


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
