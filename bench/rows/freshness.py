"""How old the figures of a node are on the console's screen: a live stage, a broadcast, a viewer.

The console is the real one, without a terminal. A node's figures are as old as the report they came with,
from the moment the manager had it until the console draws newer ones. Looked at a hundred times a second;
the oldest node on screen counts. The last step, from the draw to the terminal, is Textual's own and not in
it.
"""

import asyncio
import sys
import time
from pathlib import Path

import console
from bench.figures import Figure, percentile
from console.app import ConsoleApp
from console.core.paths import Home
from console.core.stage.model import StageOptions
from console.core.target import ConsoleOptions
from console.messages import FeedArrived
from console.screens.shared.view import View
from tests.support.stage import environment, running_stage

TITLE = "age of the figures on the console's screen, 1 origin, 1 edge, 1 viewer"

SECONDS = 30.0
SETTLE_S = 3.0
LIMIT_MS = 1000.0


class WatchedConsole(ConsoleApp):
    """Keeps when each node's figures were reported, and which of them have been drawn."""

    CSS_PATH = str(Path(console.__file__).with_name("console.tcss"))  # would be looked for beside this file

    def __init__(self, options: ConsoleOptions) -> None:
        super().__init__(options)
        self._reported: dict[str, float] = {}
        self.shown: dict[str, float] = {}

    def on_feed_arrived(self, message: FeedArrived) -> None:
        """Beside the console's own: Textual calls the handlers of every class, this one first."""
        item = message.item
        for node in item.nodes if item.snapshot is None else item.snapshot.nodes:
            if node.age_s is not None:
                self._reported[node.id] = item.at - node.age_s

    def look(self) -> View:
        self.shown = {name: self._reported[name] for name in self._state.nodes if name in self._reported}
        return super().look()


async def run() -> list[Figure]:
    with running_stage() as stage:
        stage.publish_test("main")
        whep = f"{stage.api}/whep/main"
        words = [sys.executable, "-m", "media.swarm", "probe", "--whep", whep, "--seconds", "120", "--json"]
        quiet = asyncio.subprocess.DEVNULL
        viewer = await asyncio.create_subprocess_exec(
            *words, env=environment(stage.home), stdin=quiet, stdout=quiet, stderr=quiet
        )
        app = WatchedConsole(ConsoleOptions(StageOptions(Home(stage.home))))
        ages: list[float] = []
        try:
            async with app.run_test(size=(160, 45)):
                end = time.monotonic() + SETTLE_S + SECONDS
                while (left := end - time.monotonic()) > 0:
                    await asyncio.sleep(0.01)
                    if left < SECONDS and len(app.shown) >= 2:
                        ages.append(1000 * (time.time() - min(app.shown.values())))
        finally:
            viewer.terminate()
            await viewer.wait()
    if len(ages) < SECONDS * 20:
        raise RuntimeError("the console showed no nodes")
    return [
        Figure("figures_on_screen_p50_ms", percentile(ages, 50), "ms", "percentile"),
        Figure("figures_on_screen_p99_ms", percentile(ages, 99), "ms", "percentile", at_most=LIMIT_MS),
        Figure("figures_on_screen_oldest_ms", max(ages), "ms", "percentile"),
    ]
