"""The whole evening from the keyboard, in a real terminal; what the screen shows is what the API says."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.wait import wait_until
from tests.terminal.clip import make_clip
from tests.terminal.conftest import Console

pytestmark = [pytest.mark.terminal, pytest.mark.stage]

LIVE_S = 45.0


def node_row(console: Console, node: str) -> str:
    """The line of a node on the Fleet page."""
    lines = console.window.text().splitlines()
    return next((line for line in lines if re.search(rf"\s{re.escape(node)}\s", line[:16])), "")


def states(console: Console) -> dict[str, str]:
    return {node["id"]: node["state"] for node in console.stage.json("nodes")}


def test_start_broadcast_scale_drain_stop_quit(console: Console, tmp_path: Path) -> None:
    window, stage = console.window, console.stage
    clip = make_clip(tmp_path / "fight night.mp4")

    # The stage comes up by itself, and the address on screen is the API's.
    console.open()
    up = stage.json("stage", "status")
    assert up["state"] == "up"
    assert up["api"] in window.text()

    # A broadcast of a file, by its path, looped.
    window.keys("b")
    window.until("Start a broadcast")
    window.keys("Right")
    window.until("▸ File", "choose a file")
    window.type(str(tmp_path) + "/fi")
    window.keys("Tab")  # completes the path
    window.until("● fight night.mp4")
    window.keys("Tab", "Tab")
    window.until("▸ Bitrate")
    window.keys("BSpace", "BSpace", "BSpace", "BSpace")
    window.type("1.5M")
    window.until("Bitrate   1.5M")
    window.keys("Tab", "Space")
    window.until("▐X▌ Loop")
    window.keys("Tab", "Tab", "Tab")
    window.until("[▸Start ]")
    window.keys("Enter")
    window.until("ON AIR", clip.name, within=LIVE_S)
    live = wait_until(lambda: [s for s in stage.json("streams") if s["state"] == "live"], LIVE_S)[0]
    assert live["channel"] == "main"
    assert live["watch"] in window.text()
    shown = window.until("of 1.50 Mbps")
    assert f"{live['origin']}, WHIP" in shown

    # A viewer: counted on the screen as in the API.
    whep = f"{up['api']}/whep/main"
    command = [sys.executable, "-m", "media.swarm", "probe", "--whep", whep, "--seconds", "600", "--json"]
    viewer = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL
    )
    try:
        window.until("1 watching", "edge-1", within=LIVE_S)
        window.keys("2")
        window.until("1/400", within=LIVE_S)
        by_id = {node["id"]: node for node in stage.json("nodes")}
        assert by_id["edge-1"]["connections"] == 1
        assert "1/400" in node_row(console, "edge-1")
        assert "1/20" in node_row(console, "origin-1")
        assert by_id["origin-1"]["connections"] == 1

        # Inside the node: the viewer's session.
        window.keys("End")
        window.keys("Enter")
        window.until("Sessions: 1 viewer out, 1 relay in", "worker 0")
        window.keys("Escape")
        window.until("Why: the fleet")

        # An edge is added, when its cost has been said; it comes into service.
        window.keys("+")
        window.until("Add an edge")
        window.keys("Right", "Enter")
        window.until("edge-2", within=LIVE_S)
        wait_until(lambda: states(console).get("edge-2") == "in_service", LIVE_S, "edge-2 in service")
        wait_until(lambda: "in service" in node_row(console, "edge-2"), 5, "the screen shows it in service")

        # Draining states its effect and starts on Cancel: enter alone changes nothing.
        window.keys("End", "d")
        window.until("edge-2: 0 viewers; 2 -> 1 edges", "Deadline", "[▸Cancel ]")
        window.keys("Enter")
        window.until_gone("Deadline")
        assert states(console)["edge-2"] == "in_service"
        window.keys("d")
        window.until("edge-2: 0 viewers; 2 -> 1 edges")
        window.keys("Right")
        window.until("[▸Drain ]")
        window.keys("Enter")
        wait_until(lambda: states(console).get("edge-2", "gone") not in ("in_service", "draining"), LIVE_S,
                   "edge-2 ends: it is empty")  # fmt: skip
        wait_until(lambda: "in service" not in node_row(console, "edge-2"), 5, "the screen shows that")

        # Stop: states who is watching, and starts on Cancel.
        window.keys("3")
        window.until("1 watching")
        window.keys("S")
        window.until("main: 1 viewer watching now.", "[▸Cancel ]")
        window.keys("Right")
        window.until("[▸Stop ]")
        window.keys("Enter")
        window.until("Nothing is on air", within=LIVE_S)
        wait_until(lambda: stage.json("streams") == [], 15, "the API says so too")
    finally:
        viewer.send_signal(signal.SIGTERM)
        viewer.wait(15)

    # The journal has it all, and says who did it.
    window.keys("4")
    window.until("operator")
    written = {entry["kind"] for entry in stage.json("journal")}
    assert {"fleet.add"} <= written, written

    # Quit: not on the button that ends things; then end the stage.
    window.keys("q")
    window.until("[▸Leave it running ]")
    window.keys("Right")
    window.until("[▸End the stage ]")
    window.keys("Enter")
    window.until("The stage has ended.", "ended with 0", within=30)
    assert stage.json("stage", "status") == {"state": "down", "processes": []}


def test_keys_typed_without_a_pause_start_the_broadcast_that_was_meant(console: Console) -> None:
    window, stage = console.window, console.stage
    console.open()
    window.burst("b", "Tab", "C-u", "late", "Tab", "End", *["BSpace"] * 4, "1.5M", "Enter", "Enter")
    window.until("ON AIR", "of 1.50 Mbps", within=LIVE_S)
    assert [s["channel"] for s in stage.json("streams")] == ["late"]
    window.burst("2", "End", "d", "Enter")  # the dialog starts on Cancel
    window.until("Why: the fleet")
    assert states(console)["edge-1"] == "in_service"
    window.burst("q", "Right", "Enter")
    window.until("The stage has ended.", within=30)


def test_a_stage_left_running_is_found_again_and_outlives_its_console(console: Console) -> None:
    window, stage = console.window, console.stage
    console.open()
    window.keys(":")
    window.type("publish test main 1M")
    window.keys("Enter")
    window.until("ON AIR", within=LIVE_S)
    window.keys("q")
    window.until("On air: main", "Ending the stage ends the broadcast")
    window.keys("Enter")  # starts on: leave it running
    window.until("The stage goes on at", "showcaller stage down", "ended with 0")
    assert [s["channel"] for s in stage.json("streams")] == ["main"]

    # The next console finds it, and when that one is killed the broadcast goes on.
    window.end()
    console.open()
    pane = int(window._tmux("display-message", "-p", "#{pane_pid}"))
    found = subprocess.run(
        ["pgrep", "-P", str(pane)], capture_output=True, text=True, check=False
    ).stdout.split()
    os.kill(int(found[0]), signal.SIGKILL)
    window.until("ended with 137")
    live = stage.json("streams")
    assert [(s["channel"], s["state"]) for s in live] == [("main", "live")]


def test_when_the_stream_manager_dies_the_data_stays_dated_and_it_comes_back(console: Console) -> None:
    window, stage = console.window, console.stage
    console.open()
    window.keys("2")
    window.until("edge-1", "in service")
    os.kill(stage.process("manager").pid, signal.SIGKILL)
    shown = window.until("as of ", "ago", "retry", "off")
    assert "edge-1" in shown
    window.until("link ●", within=30)
    window.until_gone("as of ", within=30)
    assert "edge-1" in window.text()


def test_a_port_in_use_is_told_with_the_next_step(console: Console) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        console.start("--port", str(port))
        shown = console.window.until("R tries again", "q leaves", within=60)
        assert str(port) in shown
        console.window.keys("q")
        console.window.until("ended with 0")


def test_a_poor_terminal_gets_ascii_without_colour_and_is_told_when_it_is_small(console: Console) -> None:
    window = console.window
    window.size = (80, 24)
    console.open(LANG="C", NO_COLOR="1")
    for key in ("1", "2", "3", "4", "5", "?"):
        window.keys(key)
        window.until("?" if key != "?" else "Keys and commands")
        assert window.text().isascii()
        assert not re.search(r"\x1b\[[0-9;]*(3[0-8]|4[0-8]|9[0-7]|10[0-7])[;m]", window.raw()), "a colour"
    window.keys("Escape")
    window.resize(50, 12)
    window.until("50x12 is small: 80x24 shows all")
    window.keys("1")
    window.until("Now")
    window.resize(80, 24)
    window.until("1 Overview  2 Fleet  3 Broadcast  4 Journal")
