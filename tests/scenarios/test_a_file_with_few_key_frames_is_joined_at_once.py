"""A file is sent as it is, with one key frame in ten seconds: nobody can make one for a viewer who joins, so
he is sent all pictures since the last one, and sees the newest at once."""

from pathlib import Path

import pytest

from tests.media.publisher.clips import make_clip
from tests.support.figures import Figure
from tests.support.stage import UP_S, Stage

JOINED_MS = 5000.0  # generous; by waiting for the next key frame it would be seven seconds at least


@pytest.mark.stage
def test_a_file_with_few_key_frames_is_joined_at_once(stage: Stage, tmp_path: Path, figure: Figure) -> None:
    clip = make_clip(tmp_path / "clip.mp4", seconds=10.0, gop=1000)
    stage.json("publish", str(clip), "--channel", "main", "--copy", "--loop", "--detach", timeout=UP_S)
    seen = stage.json("probe", "main", "--seconds", "3", timeout=60)
    figure(f"joined within a group of 10 s: first picture after {seen['first_frame_ms']:.0f} ms")
    assert seen["first_frame_ms"] < JOINED_MS
    assert seen["frames"] > 60
    again = stage.json("probe", "main", "--seconds", "3", timeout=60)
    assert again["first_frame_ms"] < JOINED_MS
    assert "from one key frame to the next" in stage.run("logs", "publisher-main").stdout
