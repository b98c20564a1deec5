"""The console is only a client: killed, or its terminal closed, the show goes on; the next one finds it."""

import os
import signal
import subprocess

import pytest

from tests.support.chromium import OpenPage
from tests.support.show import PATIENCE_S, mark, never_reloaded, plays_on
from tests.support.stage import KEYRING, Stage, command_line, keyring_of, terminal_environment
from tests.support.wait import wait_for
from tests.terminal.tmux import Terminal, terminal

OPEN_S = 45.0


def open_console(window: Terminal, stage: Stage) -> int:
    """A console on this stage; its pid."""
    window.start(command_line(), terminal_environment(stage.home))
    window.until("1 Overview", "2 nodes in service", "main", within=OPEN_S)
    pane = window._tmux("display-message", "-p", "#{pane_pid}").strip()
    children = subprocess.run(["pgrep", "-P", pane], capture_output=True, text=True, check=True)
    console = int(children.stdout.split()[0])
    assert keyring_of(console) == os.environ[KEYRING]
    return console


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.browser
@pytest.mark.stage
@pytest.mark.terminal
async def test_killing_the_console_ends_no_broadcast(stage: Stage, watch_page: OpenPage) -> None:
    stage.publish_test("main", "--bitrate", "2M")
    watch = await watch_page(f"{stage.watch}/main")
    await plays_on(watch, "opening the page")
    await mark(watch)
    before = {record.name: record.pid for record in stage.processes()}

    with terminal() as window:
        console = open_console(window, stage)
        os.kill(console, signal.SIGKILL)
        window.until("ended with 137")
        await plays_on(watch, "the console was killed")
    with terminal() as window:
        console = open_console(window, stage)
        window.end()  # the terminal itself is closed
        await wait_for(lambda: gone(console), PATIENCE_S, "the console ends with its terminal")
        await plays_on(watch, "the terminal was closed")

    # Not one process was ended or started anew, and the page never noticed.
    assert {record.name: record.pid for record in stage.processes()} == before
    assert await never_reloaded(watch)
    facts = await watch.facts()
    assert facts["sessions"] == 1
    assert [(s["channel"], s["state"]) for s in stage.json("streams")] == [("main", "live")]
