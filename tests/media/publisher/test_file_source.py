"""Files as a source: every picture in its place, loops in lip-sync, damage survived, words for the rest."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest

from media.publisher.sources.file import Decoding, FileSource
from media.publisher.sources.port import SAMPLE_RATE, EndOfSource, SourceRejected
from media.publisher.sources.track import Track
from tests.media.publisher.clips import make_clip

PATIENCE_S = 20.0
B_FRAMES = {"preset": "medium", "x264-params": "b-adapt=0:scenecut=0"}


@contextlib.contextmanager
def opened(
    path: Path, *, loop: bool = False, begin: float = 0.0, size=None, fps=None
) -> Iterator[FileSource]:  # type: ignore[no-untyped-def]
    source = FileSource(path, loop, Decoding(size, fps), begin)
    try:
        source.start(begin, 0.0)
        yield source
    finally:
        source.close()


def read(source: FileSource, seconds: float) -> tuple[list[tuple[float, av.VideoFrame]], np.ndarray]:  # type: ignore[type-arg]
    """Pictures and sound up to a show time, taken in step as the show takes them (but not by the clock)."""
    pictures, sound, block = [], [], 0
    while True:
        try:
            picture = source.picture(PATIENCE_S)
        except EndOfSource:
            break
        assert picture is not None, "the source stands still"
        while block * 0.02 <= picture.at:
            sound.append(source.sound(block * 960, 960))
            block += 1
        if picture.at >= seconds:
            break
        frame = picture.make(0.0)
        assert isinstance(frame, av.VideoFrame)
        pictures.append((picture.at, frame))
    return pictures, np.concatenate(sound)


def _is_white(frame: av.VideoFrame) -> bool:
    return float(np.frombuffer(memoryview(frame.planes[0]), np.uint8).mean()) > 180


def test_a_file_plays_once_and_ends(tmp_path: Path) -> None:
    with opened(make_clip(tmp_path / "clip.mp4", seconds=1.0)) as source:
        assert source.info.fps == 25
        assert (source.info.width, source.info.height) == (640, 360)
        assert source.info.duration == pytest.approx(1.0)
        pictures, sound = read(source, 100)
        assert [at for at, _ in pictures] == pytest.approx([n / 25 for n in range(25)])
        assert np.abs(sound[4800:40000]).max() > 500
        with pytest.raises(EndOfSource):
            source.picture(0)


@pytest.mark.parametrize("sound_seconds", [1.13, 0.87])
def test_picture_and_sound_keep_together_through_many_loops(tmp_path: Path, sound_seconds: float) -> None:
    """A white picture and a beep at 0.4 s of a clip of 1 s whose sound is longer or shorter than that."""
    loops = 12
    clip = make_clip(tmp_path / "clip.mkv", seconds=1.0, sound_seconds=sound_seconds, mark=0.4)
    with opened(clip, loop=True) as source:
        pictures, sound = read(source, loops)
    assert len(pictures) == loops * 25
    flashes = [at for at, frame in pictures if _is_white(frame)]
    assert flashes == pytest.approx([n + 0.4 for n in range(loops)], abs=0.001)
    loud = np.flatnonzero(np.abs(sound[:, 0]) > 0.5 * 32768)
    beeps = np.array([loud[0], *loud[1:][np.diff(loud) > SAMPLE_RATE // 2]]) / SAMPLE_RATE
    # A coder may shift sound by some milliseconds; whatever it is, it is the same in each round.
    assert len(beeps) == loops
    assert np.abs(beeps - flashes).max() < 0.03
    assert np.ptp(beeps - flashes) < 0.003


def test_it_goes_on_in_the_middle_of_a_round(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", seconds=2.0, mark=1.6)
    with opened(clip, loop=True, begin=5.0) as source:
        pictures, _ = read(source, 6.5)
        assert pictures[0][0] == pytest.approx(5.0, abs=0.05)
        assert [at for at, frame in pictures if _is_white(frame)] == pytest.approx([5.6], abs=0.01)
        assert source.position(5.6) == pytest.approx(1.6, abs=0.05)


@pytest.mark.parametrize("layout", ["mono", "5.1"])
def test_any_sound_becomes_stereo(tmp_path: Path, layout: str) -> None:
    with opened(make_clip(tmp_path / "clip.mp4", seconds=0.6, layout=layout)) as source:
        _, sound = read(source, 100)
        assert np.abs(sound).max() > 300


def test_a_film_without_sound_is_a_film(tmp_path: Path) -> None:
    with opened(make_clip(tmp_path / "clip.mp4", seconds=0.4, sound_seconds=0)) as source:
        assert not source.info.sound
        assert len(read(source, 100)[0]) == 10


@pytest.mark.parametrize(
    ("name", "codec", "sound"),
    [
        ("clip.webm", "libvpx", "libopus"),
        ("clip.ts", "libx264", "aac"),
        ("clip.mov", "mpeg4", "aac"),
        ("clip.avi", "mpeg4", "mp2"),
    ],
)
def test_many_kinds_of_film_are_taken(tmp_path: Path, name: str, codec: str, sound: str) -> None:
    clip = make_clip(tmp_path / name, seconds=0.8, codec=codec, options={}, sound_codec=sound)
    with opened(clip, loop=True) as source:
        pictures, _ = read(source, 1.5)
        assert len(pictures) == pytest.approx(37, abs=2)


def test_b_frames_come_out_in_showing_order(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", seconds=1.0, b_frames=2, options=B_FRAMES, mark=0.52)
    with opened(clip) as source:
        pictures, _ = read(source, 100)
        times = [at for at, _ in pictures]
        assert times == sorted(times)
        assert len(times) == 25
        assert [at for at, frame in pictures if _is_white(frame)] == pytest.approx([0.52], abs=0.01)


def test_size_and_rate_can_be_chosen(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", seconds=1.0, fps=50, size=(1280, 720))
    with opened(clip, size=(640, 360), fps=25) as source:
        assert source.info.fps == 25
        assert "1280x720 is sent as 640x360" in source.info.note
        pictures, _ = read(source, 100)
        assert len(pictures) == 25
        assert (pictures[0][1].width, pictures[0][1].height) == (640, 360)


def test_very_large_pictures_are_made_smaller(tmp_path: Path) -> None:
    with opened(make_clip(tmp_path / "clip.mp4", seconds=0.2, size=(2560, 1440), sound_seconds=0)) as source:
        assert (source.info.width, source.info.height) == (1920, 1080)


def test_ten_bit_colour_is_brought_down_to_eight(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", seconds=0.2, pixels="yuv420p10le", sound_seconds=0)
    with opened(clip) as source:
        assert read(source, 100)[0][0][1].format.name == "yuv420p"


def test_a_damaged_file_is_played_as_far_as_it_goes(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.ts", seconds=4.0)
    data = bytearray(clip.read_bytes())
    for place in range(len(data) // 3, len(data) // 3 + 4000):
        data[place] = place * 7 % 251
    clip.write_bytes(data)
    with opened(clip) as source:
        pictures, _ = read(source, 100)
        assert len(pictures) > 70
        assert pictures[-1][0] > 3.5


def test_a_file_cut_off_in_the_middle_is_played_to_there(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mkv", seconds=2.0)
    clip.write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
    with opened(clip) as source:
        assert 5 < len(read(source, 100)[0]) < 45


def test_a_file_that_goes_away_under_a_loop_is_said(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", seconds=0.6)
    with opened(clip, loop=True) as source:
        clip.unlink()
        with pytest.raises(SourceRejected, match="there is no file"):
            read(source, 100)


def test_a_name_with_a_colon_is_a_name(tmp_path: Path) -> None:
    with opened(make_clip(tmp_path / "http: a film.mp4", seconds=0.2, sound_seconds=0)) as source:
        assert len(read(source, 100)[0]) == 5


def _text(path: Path) -> Path:
    path.write_text("This is no film.\n" * 50)
    return path


def _picture(path: Path) -> Path:
    with av.open(str(path), "w") as out:
        stream = out.add_stream("png", rate=1)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "rgb24"  # type: ignore[union-attr]
        frame = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
        out.mux(stream.encode(frame))  # type: ignore[union-attr]
        out.mux(stream.encode(None))  # type: ignore[union-attr]
    return path


def _tone(path: Path) -> Path:
    with av.open(str(path), "w") as out:
        stream = out.add_stream("pcm_s16le", rate=SAMPLE_RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4800), np.int16), format="s16", layout="mono")
        frame.sample_rate = SAMPLE_RATE
        out.mux(stream.encode(frame))  # type: ignore[union-attr]
        out.mux(stream.encode(None))  # type: ignore[union-attr]
    return path


def _empty(path: Path) -> Path:
    path.touch()
    return path


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


def _pipe(path: Path) -> Path:
    os.mkfifo(path)
    return path


def _noise(path: Path) -> Path:
    path.write_bytes(np.random.default_rng(3).bytes(50_000))
    return path


@pytest.mark.parametrize(
    ("make", "name", "words"),
    [
        (_text, "notes.txt", "is not a video file"),
        (_text, "notes.mp4", "is not a video file"),
        (_picture, "still.png", "is not a video file"),
        (_tone, "tone.wav", "has sound but no video"),
        (_empty, "empty.mp4", "is empty"),
        (_folder, "folder.mp4", "is a folder"),
        (_pipe, "pipe.mp4", "is not a regular file"),
        (_noise, "noise.mp4", "is not a video file"),
        (lambda path: path, "missing.mp4", "there is no file"),
        (lambda path: path / "below", "missing.mp4", "there is no file"),
    ],
)
def test_what_is_no_film_is_refused_in_words(tmp_path: Path, make, name: str, words: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(SourceRejected, match=words) as caught:
        FileSource(make(tmp_path / name), False, Decoding(None, None))
    assert caught.value.next_step.endswith(".")


def test_a_file_that_may_not_be_read_is_refused_in_words(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", seconds=0.2)
    clip.chmod(0)
    tmp_path.chmod(0o700)
    root = os.geteuid() == 0
    if root:  # who may read everything: be somebody else for a moment
        os.seteuid(65534)
    try:
        with pytest.raises(SourceRejected, match="may not be read"):
            FileSource(clip, False, Decoding(None, None))
    finally:
        if root:
            os.seteuid(0)


def test_a_source_can_be_left_at_any_moment(tmp_path: Path) -> None:
    for _ in range(3):
        with opened(make_clip(tmp_path / "clip.mp4", seconds=1.0), loop=True) as source:
            assert source.picture(PATIENCE_S) is not None
        assert not source._reader.is_alive()


def test_the_track_is_not_asked_for_more_than_it_holds() -> None:
    assert Track().ahead == 0
