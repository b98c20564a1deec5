"""A stand for the screens: the real console on a feed that the test writes.

The feed is a Source like the live one: the messages go through the same State, the same View and the same
widgets as those of a stream manager. Calls go to a real Client; where a test needs an answer it brings a real
stream manager (tests/terminal), here nobody answers. The clock is the test's.
"""

import asyncio
import math
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from textual import events
from textual.app import App
from textual.keys import _character_to_key
from textual.pilot import Pilot

from console.app import ConsoleApp
from console.core.client import Client
from console.core.errors import ConsoleError
from console.core.live import Link, LinkState
from console.core.paths import Home
from console.core.stage import Report, StageOptions
from console.core.target import ConsoleOptions, Target
from console.screens.shared.page import Page
from controlplane.wire.api import (
    DrainProgress,
    GroupView,
    HistoryPoint,
    JournalEntry,
    LatencyView,
    LiveMessage,
    NodeDetail,
    Snapshot,
    StreamDetail,
)
from controlplane.wire.drills import Blast, Drill, DrillKind, Struck
from controlplane.wire.events import EventState, EventView
from controlplane.wire.money import MoneyNow
from controlplane.wire.nodes import NodeState, Role
from controlplane.wire.publishing import PublisherReport, PublishLine, PublishState

START = 1_790_000_000.0  # Unix time: 14:13:20 UTC
DEADLINE_S = 10.0
KEYS = {
    "tab": "\t",
    "enter": "\r",
    "escape": "\x1b",
    "backspace": "\x7f",
    "home": None,
    "end": None,
    "up": None,
    "down": None,
    "left": None,
    "right": None,
}


def node(
    name: str, state: NodeState = NodeState.IN_SERVICE, connections: int | None = 0, **more: Any
) -> NodeDetail:
    role = Role.ORIGIN if name.startswith("origin") else Role.EDGE
    fields: dict[str, Any] = {
        "id": name,
        "role": role,
        "region": "local",
        "state": state,
        "connections": connections,
        "capacity": 20 if role is Role.ORIGIN else 400,
        "egress_bps": None if connections is None else connections * 4.5e6,
        "age_s": None if connections is None else 0.3,
        "state_since": START - 100,
        "created_at": START - 7500,
        "ingress_bps": 4.6e6,
        "loss": None if connections is None else 0.0002,
        "cpu": 0.41,
        "rtt_ms": 12.3,
        "loop_delay_ms": 1.1,
        "gso": True,
        "version": "0.1.0",
        "pid": 4711,
        "launch_s": 1.4,
    }
    return NodeDetail.model_validate(fields | more)


def report(channel: str = "main", **more: Any) -> PublisherReport:
    line = PublishLine(
        at="2026-09-21T14:13:20Z",
        channel=channel,
        state=PublishState.LIVE,
        bitrate_bps=4.49e6,
        fps=29.9,
        skipped=12,
        rtt_ms=11.0,
    )
    fields: dict[str, Any] = {
        "line": line,
        "publisher": "showcaller publish on box, pid 4711",
        "source": "fight.mkv",
        "width": 1280,
        "height": 720,
        "target_bps": 4.5e6,
        "target_fps": 30.0,
        "missed": 1100,
        "dropped": 0,
        "position_s": 72.0,
        "duration_s": 600.0,
        "audio_level_db": -14.0,
    }
    return PublisherReport.model_validate(fields | more)


def stream(channel: str = "main", viewers: int = 371, **more: Any) -> StreamDetail:
    fields: dict[str, Any] = {
        "channel": channel,
        "state": "live",
        "origin": "origin-1",
        "publisher": "showcaller publish on box, pid 4711",
        "bitrate_bps": 4.48e6,
        "fps": 30.0,
        "viewers": viewers,
        "watch": f"http://127.0.0.1:8080/watch/{channel}",
        "latency_ms": LatencyView(p50=118.0, p95=164.0, age_s=1.2),
        "since": START - 2472,
        "video_codec": "H264",
        "width": 1280,
        "height": 720,
        "loss": 0.0,
        "edges": ["edge-1", "edge-2"],
        "report": report(channel),
    }
    return StreamDetail.model_validate(fields | more)


def entry(
    number: int, message: str, kind: str = "node.in_service", subject: str = "edge-1", **more: Any
) -> JournalEntry:
    fields: dict[str, Any] = {
        "id": number,
        "at": START - 600 + number * 10,
        "actor": "stream manager",
        "kind": kind,
        "subject": subject,
        "message": message,
    }
    return JournalEntry.model_validate(fields | more)


def event(number: int, title: str, starts_in: float, lasts: float = 7200.0, **more: Any) -> EventView:
    fields: dict[str, Any] = {
        "id": f"ev-{number}",
        "title": title,
        "state": EventState.ON if starts_in <= 0 < starts_in + lasts else EventState.COMING,
        "start": "",
        "end": "",
        "zone": "Europe/Berlin",
        "starts_at": START + starts_in,
        "ends_at": START + starts_in + lasts,
        "channel": "main",
        "expected": 1200,
        "registered": 0,
        "crowd": 1200,
        "created_at": START - 86_400,
    }
    return EventView.model_validate(fields | more)


def events_planned() -> list[EventView]:
    """One of everything."""
    return [
        event(
            3, "Matinee", -40_000, 3600, state=EventState.CANCELLED, cancelled_at=START - 300,
            cancel_reason="no crew", channel="second",
        ),
        event(4, "Warm-up", -9000, 3600, state=EventState.ENDED, crowd=300),
        event(7, "Cup final", -2400, crowd=8000, checked_at=START - 2700),
        event(8, "Press conference after the cup final, with both teams", 5400, 1800, crowd=50),
        event(9, "Quiz", 2 * 86_400, zone="Asia/Tokyo", channel="second", crowd=0),
    ]  # fmt: skip


def journal() -> list[JournalEntry]:
    return [
        entry(1, "origin-1 is in service, 1.2 s after it was asked for", subject="origin-1"),
        entry(2, "edge-1 is in service, 1.4 s after it was asked for"),
        entry(3, "main is on air from origin-1", "stream.live", "main", actor="publisher"),
        entry(4, "one more edge was asked for: 2 in all", "fleet.add", "edge", actor="operator"),
        entry(5, "edge-2 is in service, 1.3 s after it was asked for", subject="edge-2"),
        entry(6, "edge-3 has been silent for 10 s; 241 viewers on it", "node.suspect", "edge-3"),
        entry(7, "edge-2 drains: 340 viewers, deadline 5 min", "node.draining", "edge-2", actor="operator"),
    ]


def money(**more: Any) -> MoneyNow:
    fields: dict[str, Any] = {
        "currency": "$",
        "node_hour": 0.21,
        "hour": 4.1,
        "known": True,
        "month": 20.5,
        "per_month": 50,
    }
    return MoneyNow.model_validate(fields | more)


def snapshot(**more: Any) -> Snapshot:
    """A busy evening: one of everything that can be wrong, and what is right."""
    nodes = [
        node("origin-1", connections=1),
        node("edge-1", connections=371),
        node(
            "edge-2",
            NodeState.DRAINING,
            340,
            drain_deadline=START + 200,
            drain=DrainProgress(
                since=START - 100,
                viewers=400,
                moved=58,
                moving=20,
                left=340,
                failed=1,
                rate=9.5,
                eta_s=35.8,
            ),
        ),
        node(
            "edge-3", NodeState.SUSPECT, 241, state_since=START - 12, age_s=12.2, egress_bps=None, rtt_ms=None
        ),
        node(
            "edge-4",
            NodeState.BOOTING,
            None,
            state_since=START - 2,
            created_at=START - 2,
            cpu=None,
            rtt_ms=None,
            loop_delay_ms=None,
            version=None,
        ),
    ]
    wave = [int(500 + 400 * math.sin(i / 30)) for i in range(180)]
    history = [
        HistoryPoint(at=START - 1800 + i * 10, role=Role.EDGE, connections=number, capacity=1200)
        for i, number in enumerate(wave)
    ]
    fields: dict[str, Any] = {
        "api": "http://127.0.0.1:8080",
        "watch": "http://127.0.0.1:8080/watch",
        "version": "0.1.0",
        "started_at": START - 7600,
        "nodes": nodes,
        "groups": groups(nodes),
        "streams": [stream()],
        "journal": journal(),
        "history": history,
        "money": money(),
    }
    return Snapshot.model_validate(fields | more)


def quiet() -> Snapshot:
    """A stage that has just come up: nothing on air."""
    nodes = [node("origin-1"), node("edge-1")]
    return snapshot(nodes=nodes, groups=groups(nodes), streams=[], journal=journal()[:2], history=[])


def bare() -> Snapshot:
    """Nothing at all."""
    return snapshot(nodes=[], groups=[], streams=[], journal=[], history=[])


def drill(node: str | None = "edge-1", *, live: bool = True, **more: Any) -> Drill:
    """As the manager says it of the busy evening."""
    channels = [Struck(channel="main", live=live, viewers=241)]
    fields: dict[str, Any] = {
        "kind": DrillKind.KILL_MANAGER if node is None else DrillKind.KILL_EDGE,
        "node": node,
        "blast": Blast(viewers=241, publishers=0, channels=channels),
        "effect": [
            f"{node} is killed at once, as a crash would do it, with 241 viewers of main on it.",
            "edge-2 has room for 159 of the 241; the other 82 wait until a new edge is up, about 2.4 s by "
            "the launches measured here.",
            "main is live and goes dark for all 241, for some seconds. Who watches elsewhere should see "
            "nothing of it.",
        ],
    }
    return Drill.model_validate(fields | more)


def groups(nodes: list[NodeDetail]) -> list[GroupView]:
    found = []
    for role in (Role.EDGE, Role.ORIGIN):
        own = [n for n in nodes if n.role == role]
        if own:
            found.append(
                GroupView(
                    role=role,
                    region="local",
                    desired=len(own),
                    in_service=sum(n.state == NodeState.IN_SERVICE for n in own),
                    connections=sum(n.connections or 0 for n in own),
                    capacity=sum(n.capacity for n in own),
                    egress_bps=sum(n.egress_bps or 0 for n in own),
                )
            )
    return found


@dataclass
class Clock:
    now: float = START

    def __call__(self) -> float:
        return self.now


class Answering(Client):
    """The discard port: nobody answers. Of events the test may say what there is, for they are asked for."""

    def __init__(self, feed: "Feed", timeout: float) -> None:
        super().__init__("http://127.0.0.1:9", "t" * 32, timeout=timeout)
        self._feed = feed

    async def events(self, *, past: bool = False) -> list[EventView]:
        return await super().events(past=past) if self._feed.events is None else self._feed.events


class Feed:
    """A Target whose live feed is what the test sends."""

    def __init__(self) -> None:
        self._items: asyncio.Queue[LiveMessage | Link | ConsoleError] = asyncio.Queue()
        self.n = 0
        self.epoch = "e1"
        self.events: list[EventView] | None = None  # None: nobody answers

    def client(self, timeout: float = 1.0) -> Client:
        return Answering(self, timeout)

    def live(self) -> "Feed":
        return self

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    async def __aiter__(self) -> AsyncIterator[LiveMessage | Link]:
        yield Link(LinkState.CONNECTING)
        while True:
            item = await self._items.get()
            if isinstance(item, ConsoleError):
                raise item
            yield item

    def send(self, item: LiveMessage | Link | ConsoleError) -> None:
        self._items.put_nowait(item)

    def up(self, first: Snapshot) -> None:
        """The link is up and the feed opens with this snapshot."""
        self.n += 1
        self.send(Link(LinkState.UP, api=first.api))
        self.send(LiveMessage(epoch=self.epoch, n=self.n, at=START, kind="snapshot", snapshot=first))

    def delta(self, at: float = START, **changes: Any) -> None:
        self.n += 1
        self.send(
            LiveMessage.model_validate(
                {"epoch": self.epoch, "n": self.n, "at": at, "kind": "delta", **changes}
            )
        )

    def down(self, attempts: int = 3) -> None:
        self.send(Link(LinkState.DOWN, attempts=attempts, retry_in_s=1.0, error="connection refused"))


@dataclass
class Stand:
    """The console in a terminal of some size, and the feed it follows."""

    app: ConsoleApp
    feed: Feed
    clock: Clock
    pilot: Pilot[int] = field(init=False)

    def text(self) -> str:
        """What is on screen, line by line."""
        return screen_text(self.app)

    @property
    def page(self) -> Page:
        page = self.app.page
        assert page is not None
        return page

    async def until_shown(self, *wanted: str) -> str:
        """Wait until all of these are on screen."""
        async with asyncio.timeout(DEADLINE_S):
            while not all(text in self.text() for text in wanted):
                await self.pilot.pause(0.02)
        return self.text()

    async def until_gone(self, *unwanted: str) -> str:
        async with asyncio.timeout(DEADLINE_S):
            while any(text in self.text() for text in unwanted):
                await self.pilot.pause(0.02)
        return self.text()

    async def until_focused(self, name: str) -> None:
        """Wait until the part of this id has the focus."""
        async with asyncio.timeout(DEADLINE_S):
            while self.app.focused is None or self.app.focused.id != name:
                await self.pilot.pause(0.02)

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)
        await self.pilot.pause()

    async def burst(self, *keys: str) -> None:
        """Keys and texts as a terminal under load hands them over: all at once, nothing between them.

        A word of Textual's (`tab`, `ctrl+u`) is a key, anything else a text that is typed.
        """
        for word in keys:
            if word in KEYS or "+" in word[1:]:
                self.app.post_message(events.Key(word, KEYS.get(word)))
                continue
            for letter in word:
                self.app.post_message(events.Key(_character_to_key(letter), letter))
        await self.pilot.pause()

    async def type(self, text: str) -> None:
        names = {
            " ": "space",
            "/": "slash",
            "!": "exclamation_mark",
            "-": "minus",
            ".": "full_stop",
            "_": "underscore",
        }
        await self.press(*(names.get(character, character) for character in text))


def make(tmp_path: Path, *, ready: bool = True, remote: bool = False, **more: Any) -> Stand:
    feed, clock = Feed(), Clock()

    async def opener(options: ConsoleOptions, report: Report) -> Target:
        report("looking for the stage on this machine")
        if not ready:
            await asyncio.Event().wait()
        target: Any = feed
        return target  # type: ignore[no-any-return]

    home = Home(tmp_path / "home")
    options = ConsoleOptions(stage=StageOptions(home=home), api="https://far.example" if remote else None)
    more.setdefault("opener", opener)
    more.setdefault("ascii_only", False)
    return Stand(ConsoleApp(options, clock=clock, **more), feed, clock)


def screen_text(app: App[Any]) -> str:
    strips = app.screen._compositor.render_strips()
    return "\n".join("".join(segment.text for segment in strip).rstrip() for strip in strips)
