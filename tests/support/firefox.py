"""A real Firefox, headless, steered by WebDriver BiDi: the distribution's own, found on this machine.

`FIREFOX_PATH` names another one. (Playwright steers only a Firefox that it has built itself.) Each has a
profile of its own that is thrown away, plays without a touch, and calls nobody by itself.

The fixture `firefox_page` opens an address in it. See https://w3c.github.io/webdriver-bidi/.
"""

import asyncio
import contextlib
import itertools
import json
import os
import re
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect

from console.core.browser import is_snap_stub
from tests.support.chromium import RECORD

NAMES = ("firefox-esr", "firefox")
START_S = 60.0
ANSWER_S = 30.0

PREFERENCES: dict[str, Any] = {
    "media.autoplay.default": 0,
    "media.autoplay.blocking_policy": 0,
    # nothing is fetched, reported or looked for by itself
    "app.normandy.enabled": False,
    "app.update.enabled": False,
    "browser.newtabpage.enabled": False,
    "browser.region.network.url": "",
    "browser.safebrowsing.downloads.remote.enabled": False,
    "browser.safebrowsing.malware.enabled": False,
    "browser.safebrowsing.phishing.enabled": False,
    "browser.search.update": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "extensions.update.enabled": False,
    "media.gmp-manager.updateEnabled": False,
    "media.gmp-provider.enabled": False,  # and so there is no H.264 in WebRTC
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "network.dns.disablePrefetch": True,
    "network.prefetch-next": False,
    "network.proxy.type": 0,
    "security.OCSP.enabled": 0,
    "services.settings.server": "data:,#",
    "toolkit.telemetry.enabled": False,
}


def find_firefox(environment: Mapping[str, str] = os.environ) -> Path | None:
    """The one that FIREFOX_PATH names, else the first that is there and no snap, which takes no profile."""
    named = environment.get("FIREFOX_PATH")
    if named:
        path = Path(named)
        return path if path.is_file() and os.access(path, os.X_OK) else None
    found = (shutil.which(name, path=environment.get("PATH", os.defpath)) for name in NAMES)
    return next((Path(path) for path in found if path and not is_snap_stub(Path(path))), None)


class Steering:
    """Commands to the browser and their answers; what pages complain of is kept."""

    def __init__(self, socket: ClientConnection) -> None:
        self.complaints: list[str] = []
        self.version = ""
        self._socket = socket
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for text in self._socket:
            message = json.loads(text)
            if message["type"] == "event":
                entry = message["params"]
                if message["method"] == "log.entryAdded" and entry["type"] == "javascript":
                    self.complaints.append(f"{entry['level']}: {entry['text']}")
            elif (answer := self._answers.pop(message.get("id"), None)) is not None:
                answer.set_result(message)

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._numbers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        await self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        message = await asyncio.wait_for(answer, ANSWER_S)
        assert message["type"] == "success", f"{method}: {message.get('error')} {message.get('message')}"
        result: dict[str, Any] = message["result"]
        return result

    async def close(self) -> None:
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)


FAKE_CAMERA: dict[str, Any] = {
    "media.navigator.permission.disabled": True,
    "media.navigator.streams.fake": True,
}


class FirefoxPage:
    """A watch page, and what it says of itself: as tests.support.chromium.WatchPage."""

    def __init__(self, steering: Steering, context: str) -> None:
        self._steering = steering
        self._context = context

    async def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression, or of what it promises; JSON."""
        result = await self._steering.call(
            "script.evaluate",
            expression=f"Promise.resolve({expression}).then((it) => JSON.stringify(it ?? null))",
            awaitPromise=True,
            target={"context": self._context},
        )
        assert result["type"] == "success", result
        return json.loads(result["result"]["value"])

    async def go(self, url: str) -> None:
        await self._steering.call("browsingContext.navigate", context=self._context, url=url, wait="complete")

    async def facts(self) -> dict[str, Any]:
        facts: dict[str, Any] = await self.evaluate("({...window.showcaller})")
        return facts

    async def history(self) -> list[list[str]]:
        history: list[list[str]] = await self.evaluate("window.told")
        return history


@contextlib.asynccontextmanager
async def running_firefox(more: Mapping[str, Any] = MappingProxyType({})) -> AsyncIterator[Steering]:
    """A Firefox with one empty page; ended and its profile deleted afterwards. `more` are preferences."""
    path = find_firefox()
    assert path is not None, "no Firefox: tests that need one carry the marker `firefox`"
    profile = Path(tempfile.mkdtemp(prefix="showcaller-firefox-"))
    lines = [
        f"user_pref({json.dumps(name)}, {json.dumps(value)});"
        for name, value in (PREFERENCES | dict(more)).items()
    ]
    (profile / "user.js").write_text("\n".join(lines))
    process = await asyncio.create_subprocess_exec(
        *(str(path), "--headless", "--no-remote", "--profile", str(profile)),
        *("--remote-debugging-port", "0", "about:blank"),
        env=os.environ | {"HOME": str(profile)},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    draining: asyncio.Task[None] | None = None
    try:
        address = await asyncio.wait_for(_address(process), START_S)
        draining = asyncio.create_task(_drain(process))
        async with connect(f"{address}/session", max_size=None, proxy=None) as socket:
            steering = Steering(socket)
            try:
                made = await steering.call("session.new", capabilities={})
                steering.version = made["capabilities"]["browserVersion"]
                await steering.call("session.subscribe", events=["log.entryAdded"])
                yield steering
            finally:
                await steering.close()
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # a session of its own: its helpers are in it
        await process.wait()
        if draining is not None:
            await draining
        shutil.rmtree(profile, ignore_errors=True)


async def _address(process: asyncio.subprocess.Process) -> str:
    """Where it says that it can be steered."""
    assert process.stderr is not None
    said = ""
    while line := (await process.stderr.readline()).decode(errors="replace"):
        said += line
        if found := re.search(r"WebDriver BiDi listening on (ws://\S+)", line):
            return found[1]
    raise AssertionError(f"Firefox ended before it could be steered:\n{said}")


async def _drain(process: asyncio.subprocess.Process) -> None:
    """What it goes on to say; a full pipe would hold it up."""
    assert process.stderr is not None
    while await process.stderr.read(65536):
        pass


@contextlib.asynccontextmanager
async def firefox_window(steering: Steering, url: str) -> AsyncIterator[FirefoxPage]:
    """An address in a window of its own: what is behind another one is slowed down."""
    created = await steering.call("browsingContext.create", type="window")
    page = FirefoxPage(steering, created["context"])
    try:
        await page.go(url)
        yield page
    finally:
        await steering.call("browsingContext.close", context=created["context"])


OpenFirefox = Callable[[str], Awaitable[FirefoxPage]]


@pytest.fixture
async def firefox_page() -> AsyncIterator[OpenFirefox]:
    """Opens an address in Firefox; checks at the end that no page complained."""
    async with running_firefox() as steering:
        tree = await steering.call("browsingContext.getTree")
        await steering.call("script.addPreloadScript", functionDeclaration=f"() => {{ {RECORD} }}")

        async def open_page(url: str) -> FirefoxPage:
            page = FirefoxPage(steering, tree["contexts"][0]["context"])
            await page.go(url)
            return page

        yield open_page
        assert not steering.complaints, f"the page complained: {steering.complaints}"
