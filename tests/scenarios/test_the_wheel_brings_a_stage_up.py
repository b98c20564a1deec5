"""The wheel, installed alone into an empty environment outside the clone, brings a whole stage up.

Styles, templates, static pages and migrations must be inside it, and nothing may lean on the clone.
"""

import json
import os
import subprocess
import sys
import urllib.request
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


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
    assert done.returncode == 0, f"{command} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.stage
def test_the_wheel_brings_a_stage_up(tmp_path: Path) -> None:
    env = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("SHOWCALLER_", "PYTHON", "VIRTUAL_ENV"))
    }
    env["SHOWCALLER_HOME"] = str(tmp_path / "home")
    dist = tmp_path / "dist"
    run(
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        dist,
        ROOT,
        env=env,
        cwd=tmp_path,
    )
    (wheel,) = dist.glob("showcaller-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if not name.startswith("showcaller-")} == {
        "console",
        "controlplane",
        "media",
        "themes",
    }

    venv = tmp_path / "venv"
    run(sys.executable, "-m", "venv", venv, env=env, cwd=tmp_path)
    pip = [venv / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    run(*pip, "--require-hashes", "-r", ROOT / "requirements.lock", env=env, cwd=tmp_path)
    run(*pip, "--no-deps", wheel, env=env, cwd=tmp_path)

    showcaller = venv / "bin" / "showcaller"
    try:
        up = json.loads(run(showcaller, "stage", "up", "--port", "0", "--json", env=env, cwd=tmp_path))
        assert up["state"] == "up"
        nodes = json.loads(run(showcaller, "nodes", "--json", env=env, cwd=tmp_path))
        assert {node["role"]: node["state"] for node in nodes} == {
            "origin": "in_service",
            "edge": "in_service",
        }
        with urllib.request.urlopen(f"{up['watch']}/main", timeout=10) as page:
            text = page.read().decode()
        assert page.status == 200
        assert "/static/" in text
        log = (tmp_path / "home" / "logs" / "manager.log").read_text()
        assert str(ROOT) not in log
    finally:
        run(showcaller, "stage", "down", "--json", env=env, cwd=tmp_path)
    assert json.loads(run(showcaller, "stage", "status", "--json", env=env, cwd=tmp_path)) == {
        "state": "down",
        "processes": [],
    }
