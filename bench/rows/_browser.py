"""A Chromium for the rows that look through a browser's eyes: the same one the tests drive."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from playwright.async_api import Browser, Page, async_playwright

from bench.figures import NotRun
from console.core.browser import find_browser
from tests.support.chromium import launch
from tests.support.wait import wait_for

START_S = 30.0
PLAYS = "window.showcaller?.state === 'playing' && window.showcaller.firstFrameMs !== null"


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    if find_browser() is None:
        raise NotRun("no Chromium here; install one or name it by CHROMIUM_PATH")
    async with async_playwright() as playwright:
        browser = await launch(playwright)
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def playing(browser: Browser, url: str) -> AsyncIterator[Page]:
    """A watch page in a fresh context, once its first frame is there."""
    context = await browser.new_context(viewport={"width": 1280, "height": 800})
    try:
        page = await context.new_page()
        await page.goto(url)
        # not wait_for_function: the page's security policy forbids what it evaluates there
        await wait_for(lambda: page.evaluate(PLAYS), START_S, "the watch page plays", interval=0.02)
        yield page
    finally:
        await context.close()
