"""The wheel, installed alone into an empty environment outside the clone, brings a whole stage up.

Styles, templates, static pages and migrations must be inside it, and nothing may lean on the clone.
"""

import json
import os
import shutil
import subprocess
import sys
import urllib.request
import zipfile
from pathlib import Path

import pytest

from tests.support.need import index_away
from tests.support.stage import KEYRING, keyring_of

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("console", "controlplane", "media", "themes")
STATIC = "controlplane/web/static/"

# Every page of the console, each with styles of its own, on the stage that is up; prints what it has seen.
CONSOLE = """
import asyncio
from console.app import ConsoleApp
from console.cli import context
from console.core.stage import StageOptions
from console.core.target import ConsoleOptions

async def main():
    app = ConsoleApp(ConsoleOptions(stage=StageOptions(home=context.home())))
    async with app.run_test(size=(120, 40)) as pilot, asyncio.timeout(60):
        async def seen(screen, key=None):
            while type(app.screen).__name__ != screen:
                if key is not None:
                    await pilot.press(key)
                await pilot.pause(0.1)
            print(screen)

        await seen("StartScreen")
        await seen("OverviewScreen")
        await seen("FleetScreen", "2")
        await seen("InsideScreen", "enter")
        await seen("BroadcastScreen", "3")
        await seen("JournalScreen", "4")
        await seen("HelpScreen", "question_mark")

asyncio.run(main())
"""
SCREENS = ["Start", "Overview", "Fleet", "Inside", "Broadcast", "Journal", "Help"]


def surroundings() -> dict[str, str]:
    """Our environment without what points at the clone, its own Python or another stage."""
    ours = ("SHOWCALLER_", "PYTHON", "VIRTUAL_ENV")
    return {name: value for name, value in os.environ.items() if name == KEYRING or not name.startswith(ours)}


def run(*command: str | Path, env: dict[str, str], cwd: Path, timeout: float = 300) -> str:
    done = subprocess.run(
        [str(word) for word in command],
        env=env,
        cwd=cwd,
        timeout=timeout,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    if done.returncode != 0 and "pip" in command and (away := index_away(done.stderr)):
        pytest.skip(away)
    assert done.returncode == 0, f"{command} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this clone, as pip builds it."""
    dist = tmp_path_factory.mktemp("dist")
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", dist]
    run(sys.executable, "-m", "pip", "wheel", *options, ROOT, env=surroundings(), cwd=dist)
    (built,) = dist.glob("showcaller-*.whl")
    return built


def test_every_file_of_the_packages_is_in_the_wheel(wheel: Path) -> None:
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("what belongs to the packages is told by git, in a clone")
    git = ["git", "-c", f"safe.directory={ROOT}", "-C", ROOT, "ls-files", "-z", "--", *PACKAGES]
    tracked = run(*git, env=surroundings(), cwd=ROOT).split("\0")[:-1]
    assert len(tracked) > 200
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        assert sorted(set(tracked) - names) == []
        assert [name for name in tracked if archive.read(name) != (ROOT / name).read_bytes()] == []
    tops = {name.split("/")[0] for name in names if not name.startswith("showcaller-")}
    assert tops == set(PACKAGES)


@pytest.mark.stage
def test_the_wheel_brings_a_stage_up(wheel: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    env = surroundings() | {"SHOWCALLER_HOME": str(home)}
    venv = tmp_path / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", venv, env=env, cwd=tmp_path)
    python, showcaller = venv / "bin" / "python", venv / "bin" / "showcaller"
    # What a stage never loads of its dependencies need not be compiled: Python compiles what it does load.
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--no-compile"]
    pip += ["--quiet", "--disable-pip-version-check"]
    run(*pip, "--require-hashes", "-r", ROOT / "requirements.lock", env=env, cwd=tmp_path)
    run(*pip, "--no-deps", wheel, env=env, cwd=tmp_path)

    try:
        up = json.loads(run(showcaller, "stage", "up", "--port", "0", "--json", env=env, cwd=tmp_path))
        assert up["state"] == "up"
        # What it makes is its own: the person's keyring is asked by none of its processes.
        assert {keyring_of(process["pid"]) for process in up["processes"]} == {os.environ[KEYRING]}
        assert (home / "config" / "operator.token").is_file()
        nodes = json.loads(run(showcaller, "nodes", "--json", env=env, cwd=tmp_path))
        assert {node["role"]: node["state"] for node in nodes} == {
            "origin": "in_service",
            "edge": "in_service",
        }
        with urllib.request.urlopen(f"{up['watch']}/main", timeout=10) as page:
            text = page.read().decode()
        assert page.status == 200
        assert "/static/" in text
        with zipfile.ZipFile(wheel) as archive:
            names = [name for name in archive.namelist() if name.startswith(STATIC)]
            assert len(names) >= 9
            for name in names:
                address = f"{up['api']}/static/{name.removeprefix(STATIC)}"
                with urllib.request.urlopen(address, timeout=10) as file:
                    assert file.read() == archive.read(name), name
        seen = run(python, "-c", CONSOLE, env=env, cwd=tmp_path)
        assert seen.split() == [f"{name}Screen" for name in SCREENS]
        log = (home / "logs" / "manager.log").read_text()
        assert str(ROOT) not in log
    finally:
        run(showcaller, "stage", "down", "--json", env=env, cwd=tmp_path)
    assert json.loads(run(showcaller, "stage", "status", "--json", env=env, cwd=tmp_path)) == {
        "state": "down",
        "processes": [],
    }
