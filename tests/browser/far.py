"""A browser in the viewer's namespace of tests.support.netns, and what a test asks of it and of the edge."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from playwright.async_api import Browser, async_playwright

from console.core.browser import find_browser
from tests.support.chromium import WatchPage, launch
from tests.support.netns import Networks, inside, wrapped
from tests.support.stage import Stage
from tests.support.wait import NotInTime, wait_for


@asynccontextmanager
async def far_browser(net: Networks, stage: Stage, folder: Path) -> AsyncIterator[Browser]:
    """Its viewers have left when it is over: what they leave behind is not the next test's."""
    path = find_browser()
    assert path is not None, "tests that need a browser carry the marker `browser`"
    async with async_playwright() as playwright:
        browser = await launch(playwright, wrapped(folder, path, net.viewer))
        try:
            yield browser
            for context in browser.contexts:
                for page in context.pages:
                    await page.goto("about:blank")
            await wait_for(lambda: transports(stage, net) == [], 20, "the viewers have left")
        finally:
            await browser.close()


def page_address(stage: Stage, host: str) -> str:
    """The watch page, by an address of the stage's machine."""
    port = stage.api.rsplit(":", 1)[1]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/watch/main"


async def playing(watch: WatchPage, deadline: float = 10) -> dict[str, Any]:
    """What the page says of itself once it has played for a second."""

    async def there() -> bool:
        return await watch.state() == "playing"

    try:
        await wait_for(there, deadline, "the page plays")
    except NotInTime as late:
        raise NotInTime(f"{late}; it says {await watch.facts()}") from None

    async def known() -> dict[str, Any] | None:
        facts = await watch.facts()
        return facts if facts["transport"] and facts["frames"] > 30 else None

    facts = await wait_for(known, 10, "a second of pictures, and its transport")
    assert facts is not None
    return facts


def transports(stage: Stage, net: Networks, kind: str = "whep", node: str = "edge-1") -> list[str]:
    """How a node's connected sessions of a kind are reached, by its own report."""
    rows = inside(net.stage, lambda: stage.get(f"nodes/{node}"))["sessions"]
    return [row["transport"] for row in rows if row["kind"] == kind and row["state"] == "connected"]
