"""A real Chromium, headless, driven through playwright: found on this machine, never downloaded.

Which one it is says console/core/browser.py: by `CHROMIUM_PATH`, or one of the usual names.

The fixture `chromium` is a running browser; `watch_page` opens pages in it and keeps what they complained
about.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, Page, async_playwright

from console.core.browser import find_browser

ARGS = [
    "--no-sandbox",  # tests run as root in containers
    "--disable-gpu",
    "--autoplay-policy=no-user-gesture-required",
    "--disable-background-networking",
    "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows",
    "--disable-renderer-backgrounding",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-domain-reliability",
    "--disable-extensions",
    "--disable-sync",
    "--disable-dev-shm-usage",  # /dev/shm is 64 MiB in a container
    "--metrics-recording-only",
    "--mute-audio",
    "--no-default-browser-check",
    "--no-first-run",
    "--no-proxy-server",
]


FAKE_CAMERA = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]


async def launch(playwright: Any, path: Path | None = None, more: Sequence[str] = ()) -> Browser:
    """`path` is that of the browser, where it is not the usual one; `more` are arguments."""
    path = path or find_browser()
    if path is None:
        raise RuntimeError("no Chromium: tests that need one carry the marker `browser`")
    try:
        browser: Browser = await playwright.chromium.launch(
            executable_path=path, headless=False, args=["--headless=new", *ARGS, *more]
        )
    except Exception:  # a Chromium too old, or too new, for that way of being headless
        browser = await playwright.chromium.launch(executable_path=path, headless=True, args=[*ARGS, *more])
    return browser


@pytest.fixture
async def chromium() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await launch(playwright)
        try:
            yield browser
        finally:
            await browser.close()


RECORD = """
window.told = [];
document.addEventListener('DOMContentLoaded', () => {
  const theatre = document.getElementById('theatre');
  const status = document.getElementById('status');
  if (!theatre) return;
  const note = () => {
    const now = [theatre.dataset.state, status.textContent];
    if (String(window.told.at(-1)) !== String(now)) window.told.push(now);
  };
  new MutationObserver(note).observe(theatre, {attributeFilter: ['data-state']});
  new MutationObserver(note).observe(status, {childList: true, characterData: true, subtree: true});
  note();
});
"""


@dataclass
class WatchPage:
    """A watch page in the browser, and what it says of itself."""

    page: Page
    complaints: list[str] = field(default_factory=list)  # script errors and refusals by the security policy

    async def facts(self) -> dict[str, Any]:
        """window.showcaller as it is now."""
        facts: dict[str, Any] = await self.page.evaluate("({...window.showcaller})")
        return facts

    async def state(self) -> str:
        state: str = await self.page.evaluate("window.showcaller.state")
        return state

    async def history(self) -> list[list[str]]:
        """Every state with its words since the page was opened, however short it lasted."""
        history: list[list[str]] = await self.page.evaluate("window.told")
        return history

    async def status(self) -> str:
        return (await self.page.text_content("#status")) or ""


OpenPage = Callable[..., Awaitable[WatchPage]]


@pytest.fixture
async def watch_page(chromium: Browser) -> AsyncIterator[OpenPage]:
    """Opens an address in a context of its own; checks at the end that no page complained."""
    opened: list[WatchPage] = []

    async def open_page(url: str, width: int = 1280, height: int = 800, **context: Any) -> WatchPage:
        surroundings = await chromium.new_context(viewport={"width": width, "height": height}, **context)
        await surroundings.add_init_script(RECORD)
        watch = WatchPage(await surroundings.new_page())
        opened.append(watch)
        watch.page.on("pageerror", lambda error: watch.complaints.append(f"script error: {error}"))

        def console(message: Any) -> None:
            # Refused requests are part of many tests; a broken policy or module is part of none.
            if message.type == "error" and "Failed to load resource" not in message.text:
                watch.complaints.append(message.text)

        watch.page.on("console", console)
        await watch.page.goto(url)
        return watch

    yield open_page
    complaints = [line for watch in opened for line in watch.complaints]
    assert not complaints, f"the page complained: {complaints}"
