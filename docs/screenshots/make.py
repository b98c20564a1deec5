"""Takes the README's screenshots from a live stage: real nodes, a real broadcast, real viewers.

    python docs/screenshots/make.py [--seconds 60] [--viewers 4]

Brings a stage up in a temporary folder, puts the test pattern on air, connects viewers, opens the console on
it without a terminal, and saves what its pages show as PNG, by way of SVG and a headless Chromium. Everything
it started is ended again.
"""

import argparse
import asyncio
import re
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from console.app import ConsoleApp
from console.core.browser import find_browser
from console.core.paths import Home
from console.core.stage import PublisherSpec, StageOptions, down, start_publisher, up
from console.core.target import ConsoleOptions, find_target

HERE = Path(__file__).resolve().parent
SIZE = (118, 34)  # columns, rows
SCALE = 2
PAGES = {"overview": "1", "fleet": "2", "broadcast": "3"}


def browser() -> str:
    found = find_browser()
    if found is None:
        sys.exit("error: no Chromium to make PNG files with. Install one, or name it by CHROMIUM_PATH.")
    return str(found)


def to_png(svg: str, target: Path, folder: Path) -> None:
    """Render the SVG as it is, without fetching its web font."""
    svg = re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL)
    box = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)
    assert box is not None, "an SVG of Textual has a viewBox"
    width, height = (round(float(side)) for side in box.groups())
    page = folder / "page.html"
    head = "<!doctype html><meta charset=utf-8><style>body{margin:0}</style>"
    page.write_text(head + svg, encoding="utf-8")
    command = [
        browser(),
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        f"--force-device-scale-factor={SCALE}",
        f"--window-size={width},{height}",
        f"--screenshot={target}",
        "--default-background-color=00000000",
        page.as_uri(),
    ]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=60)
    print(f"{target.relative_to(Path.cwd()) if target.is_relative_to(Path.cwd()) else target}")


def watch_command(url: str, folder: Path) -> list[str]:
    """A browser on the watch page: it measures the latency, as every viewer's does."""
    return [
        browser(),
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--mute-audio",
        "--remote-debugging-port=0",
        "--autoplay-policy=no-user-gesture-required",
        f"--user-data-dir={folder / 'browser'}",
        url,
    ]


async def start(command: list[str]) -> asyncio.subprocess.Process:
    quiet = subprocess.DEVNULL
    return await asyncio.create_subprocess_exec(*command, stdin=quiet, stdout=quiet, stderr=quiet)


async def take(home: Home, seconds: float, viewers: int, folder: Path) -> None:
    options = ConsoleOptions(stage=StageOptions(home=home, port=0))
    await up(options.stage, report=lambda line: print(line, file=sys.stderr))
    target = find_target(options)
    watching: list[asyncio.subprocess.Process] = []
    try:
        async with target.client() as client:
            spec = PublisherSpec(channel="main", source="test", bitrate_bps=1.5e6)
            await start_publisher(home, client, spec)
        app = ConsoleApp(options, ascii_only=False)
        async with app.run_test(size=SIZE) as pilot:
            probe = [sys.executable, "-m", "media.swarm", "probe", "--whep", f"{target.api}/whep/main"]
            watching.append(await start(watch_command(f"{target.api}/watch/main", folder)))
            for _ in range(viewers - 1):
                await pilot.pause(seconds / (viewers + 1))
                watching.append(await start([*probe, "--seconds", str(seconds * 2)]))
            await pilot.pause(2 * seconds / (viewers + 1))
            for name, key in PAGES.items():
                await pilot.press(key)
                await pilot.pause(2.0)
                to_png(app.export_screenshot(title="showcaller"), HERE / f"{name}.png", folder)
    finally:
        for viewer in watching:
            with suppress(ProcessLookupError):
                viewer.terminate()
        await asyncio.gather(*(viewer.wait() for viewer in watching))
        await down(home)


def main() -> None:
    parser = argparse.ArgumentParser(description="Takes the README's screenshots from a live stage.")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long the show runs first")
    parser.add_argument("--viewers", type=int, default=4)
    words = parser.parse_args()
    browser()
    with tempfile.TemporaryDirectory(prefix="showcaller-shot-") as folder:
        asyncio.run(take(Home(Path(folder) / "home"), words.seconds, words.viewers, Path(folder)))


if __name__ == "__main__":
    main()
