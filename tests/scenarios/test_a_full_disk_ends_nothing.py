"""A disk that fills up under a running stage: it is said, nothing on air ends, and it passes.

The home lies on a small file system of its own, which takes root to mount; under a folder with spaces in its
name, too deep for the path of a Unix socket.
"""

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.need import need, need_root
from tests.support.show import in_service
from tests.support.stage import Stage, _end_by_force
from tests.support.wait import wait_until

PATIENCE_S = 20.0


@contextmanager
def small_disk(size: str) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="showcaller-disk-"))
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
        folder.rmdir()


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass


def live(stage: Stage, channel: str) -> bool:
    streams = stage.get("streams")
    return any(s["channel"] == channel and s["state"] == "live" and s["bitrate_bps"] for s in streams)


@pytest.mark.stage
def test_the_disk_of_the_home_fills_up_and_is_freed_again() -> None:
    need("mount")
    need_root("mounting a small disk")
    with small_disk("3m") as disk:
        stage = Stage(disk / "a home with spaces" / ("y" * 150))
        try:
            stage.up()
            stage.publish_test("main", "--bitrate", "1M")
            wait_until(lambda: live(stage, "main"), PATIENCE_S, "the broadcast is live")
            sent = stage.process("publisher-main")
            fill(disk / "filling")

            refused = stage.run("fleet", "add", "edge", check=False)
            assert refused.returncode == 1
            assert "database cannot be written" in refused.stderr
            assert "Free some disk space" in refused.stderr
            assert "Traceback" not in refused.stderr
            refused = stage.run("publish", "test", "--channel", "other", "--detach", check=False)
            assert refused.returncode == 1
            assert "no room left" in refused.stderr or "cannot be written" in refused.stderr
            assert live(stage, "main"), "what is on air goes on"
            assert stage.run("fleet", "history", "edge", check=False).returncode in (0, 1), (
                "it is not written"
            )

            (disk / "filling").unlink()
            assert stage.json("fleet", "add", "edge")["state"] == "requested"
            wait_until(
                lambda: in_service(stage) == ["edge", "edge", "origin"],
                PATIENCE_S,
                "the new edge serves",
            )
            assert live(stage, "main")
            coverage = stage.json("fleet", "history", "edge")["coverage"]
            assert (coverage["gaps"], coverage["damaged"], coverage["torn"]) == ([], [], 0)
            assert stage.process("publisher-main") == sent, "the same publisher all along"
            assert not any("Traceback" in log.read_text() for log in (stage.home / "logs").glob("*.log"))
            stage.down()
            stage.leaves_nothing()
        finally:
            _end_by_force(stage)
