"""Every command against a real stage: the shapes that scripts rely on, confirmation, waiting, following."""

import json
import queue
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from controlplane.wire.processes import alive
from tests.console.cli.test_words import Cli, run_on_terminal
from tests.media.publisher.clips import make_clip
from tests.support.stage import Stage, command_line, environment, running_stage
from tests.support.wait import wait_until

pytestmark = pytest.mark.stage

NODE = {"id", "role", "region", "state", "connections", "capacity", "egress_bps", "age_s"}
STREAM = {
    "channel",
    "state",
    "origin",
    "publisher",
    "bitrate_bps",
    "fps",
    "viewers",
    "watch",
    "latency_ms",
}
LINE = {"at", "channel", "state", "bitrate_bps", "fps", "skipped", "rtt_ms"}
DRAIN = {"node", "state", "viewers", "deadline_s"}


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    """One stage for the whole file: each test leaves it as it found it."""
    with running_stage() as running:
        yield running


class Following:
    """A command that goes on: its lines as they come."""

    def __init__(self, stage: Stage, *words: str) -> None:
        self.process = subprocess.Popen(
            command_line(*words),
            env=environment(stage.home),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines: queue.Queue[str] = queue.Queue()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.put(line)

    def until(self, wanted: str, within_s: float = 30.0) -> str:
        """The first line that matches."""
        deadline = time.monotonic() + within_s
        while True:
            try:
                line = self.lines.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"no line like {wanted} within {within_s:g} s") from None
            if re.search(wanted, line):
                return line

    def end(self, number: signal.Signals = signal.SIGINT) -> int:
        self.process.send_signal(number)
        code = self.process.wait(timeout=30)
        self.reader.join(timeout=5)
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()
        return code


@pytest.fixture
def follow(stage: Stage) -> Iterator[Callable[..., Following]]:
    """Starts commands that go on; whatever a failed test left of them is ended."""
    started: list[Following] = []

    def start(*words: str) -> Following:
        started.append(Following(stage, *words))
        return started[-1]

    yield start
    for following in started:
        if following.process.poll() is None:
            following.end(signal.SIGKILL)


def test_status_names_every_process(stage: Stage) -> None:
    view = stage.json("stage", "status")
    assert set(view) == {"state", "api", "watch", "processes"}
    assert view["state"] == "up"
    assert view["watch"] == f"{view['api']}/watch"
    names = {process["name"]: process["pid"] for process in view["processes"]}
    assert {"supervisor", "manager", "origin-1", "edge-1"} <= set(names)
    assert all(set(process) == {"name", "pid"} for process in view["processes"])
    plain = stage.run("stage", "status").stdout
    assert "stage   up" in plain
    assert str(names["manager"]) in plain


def test_nodes_have_the_promised_keys(stage: Stage) -> None:
    nodes = stage.json("nodes")
    assert {node["role"] for node in nodes} == {"origin", "edge"}
    assert all(set(node) == NODE for node in nodes)
    assert all(node["state"] == "in_service" for node in nodes)
    lines = stage.run("nodes").stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["node", *(node["id"] for node in nodes)]
    assert "\x1b" not in "".join(lines)


def test_the_same_works_as_from_another_machine_with_api_and_token(stage: Stage) -> None:
    token = (stage.home / "config" / "operator.token").read_text().strip()
    cli = Cli(stage.home.parent / "elsewhere")
    for words in (["nodes", "--api", stage.api], ["--api", stage.api, "nodes"]):
        done = cli(*words, "--json", SHOWCALLER_TOKEN=token)
        assert len(json.loads(done.stdout)) == 2
    refused = cli("nodes", "--api", stage.api, SHOWCALLER_TOKEN="x" * 43)
    assert refused.returncode == 1
    assert "x" * 43 not in refused.stderr


def test_a_broadcast_is_published_detached_listed_and_stopped(stage: Stage) -> None:
    line = stage.publish_test("main", "--bitrate", "1M")
    assert set(line) == LINE
    assert (line["channel"], line["state"]) == ("main", "live")

    def measured() -> dict[str, Any] | None:
        [stream] = stage.json("streams")
        return stream if stream["state"] == "live" and stream["bitrate_bps"] else None

    stream = wait_until(measured, 15, "the stream is measured")
    assert stream is not None
    assert set(stream) == STREAM
    assert set(stream["latency_ms"]) == {"p50", "p95", "age_s"}
    assert stream["watch"] == f"{stage.watch}/main"
    assert httpx.get(stream["watch"]).status_code == 200
    assert "main" in stage.run("streams").stdout

    taken = stage.run("publish", "test", "--channel", "main", "--detach", "--json", check=False)
    assert taken.returncode == 1
    assert "main" in json.loads(taken.stderr)["error"]["what"]

    dry = stage.json("streams", "stop", "main", "--dry-run")
    assert dry["effect"] == "ends main for 0 viewers"
    unsure = stage.run("streams", "stop", "main", check=False)
    assert unsure.returncode == 2
    assert "--yes" in unsure.stderr
    cli = Cli(stage.home)
    code, words = run_on_terminal(cli, "streams", "stop", "main", answer=b"n\n")
    assert code == 1
    assert "ends main for 0 viewers" in words
    assert len(stage.json("streams")) == 1

    code, words = run_on_terminal(cli, "streams", "stop", "main", answer=b"y\n")
    assert code == 0
    wait_until(lambda: stage.json("streams") == [], 15, "nothing is on air")
    again = stage.run("streams", "stop", "main", "--yes", "--json", check=False)
    assert again.returncode == 1
    assert json.loads(again.stderr)["error"]["status"] == 404


def test_it_is_said_when_a_detached_file_ends(stage: Stage, tmp_path: Path) -> None:
    clip = str(make_clip(tmp_path / "clip.mp4", seconds=20.0, size=(160, 90)))
    once = stage.run("publish", clip, "--channel", "once", "--detach", timeout=60)
    assert "ends with the file, or before that by `showcaller streams stop once`" in once.stderr
    stage.stop("once")
    again = stage.run("publish", clip, "--channel", "again", "--loop", "--detach", timeout=60)
    assert "stays on air until `showcaller streams stop again`" in again.stderr
    stage.stop("again")


def test_a_detached_broadcast_that_is_interrupted_while_it_starts_is_stopped(stage: Stage) -> None:
    command = Following(stage, "publish", "test", "--channel", "cut", "--detach")
    record = wait_until(
        lambda: next((r for r in stage.processes() if r.name == "publisher-cut"), None),
        30,
        "its publisher was launched",
        interval=0.01,
    )
    command.process.send_signal(signal.SIGINT)
    assert command.process.wait(30) == 130
    assert command.process.stderr is not None
    assert "cut was being started, and has been stopped" in command.process.stderr.read()
    assert not alive(record)
    assert "cut" not in [stream["channel"] for stream in stage.json("streams")]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_broadcast_in_the_foreground_ends_cleanly_by_a_signal(
    stage: Stage, follow: Callable[..., Following], number: signal.Signals
) -> None:
    publish = follow("publish", "test", "--channel", "front", "--bitrate", "1M", "--json")
    line = json.loads(publish.until('"live"'))
    assert set(line) == LINE
    record = stage.process("publisher-front")
    assert record.pid == publish.process.pid
    second = stage.run("publish", "test", "--channel", "front", "--json", check=False)
    assert second.returncode == 1
    assert publish.end(number) == 0
    wait_until(lambda: stage.json("streams") == [], 15, "nothing is on air")
    wait_until(
        lambda: not [left for left in stage.left_over() if left.kind == "encoder"], 5, "no encoder is left"
    )
    assert not alive(record)


def test_a_file_that_is_no_media_is_said_in_both_ways(stage: Stage) -> None:
    path = stage.home / "letter.txt"
    path.write_text("Dear viewer,\n" * 200)
    for more in ([], ["--detach"]):
        done = stage.run("publish", str(path), "--channel", "letter", *more, check=False)
        assert done.returncode == 1
        assert "letter.txt" in done.stderr
        assert "error: " in done.stderr


def test_a_token_is_made_for_other_whip_clients(stage: Stage) -> None:
    made = stage.json("token", "create", "--publish", "obs", "--ttl", "10m")
    assert set(made) == {"whip", "token", "expires"}
    assert made["whip"] == f"{stage.api}/whip/obs"
    assert 0 < datetime.fromisoformat(made["expires"]).timestamp() - time.time() <= 600
    plain = stage.run("token", "create", "--publish", "obs").stdout
    assert plain.startswith(f"whip     {stage.api}/whip/obs\ntoken    ")


def test_an_edge_is_added_drained_and_ended_and_the_journal_is_followed_meanwhile(
    stage: Stage, follow: Callable[..., Following]
) -> None:
    journal = follow("journal", "-f", "--json", "-n", "1")
    plain = follow("journal", "-f", "-n", "1")
    journal.until(".")
    plain.until(".")
    effect = stage.run("fleet", "add", "edge", "--dry-run").stdout
    assert "1 -> 2 edges" in effect
    assert effect.endswith("; +$0.031 an hour (not done)\n")
    added = stage.json("fleet", "add", "edge", "--wait", timeout=60)
    assert set(added) == DRAIN
    assert added["state"] == "in_service"
    name = added["node"]
    record = stage.process(name)

    unsure = stage.run("fleet", "drain", name, check=False)
    assert unsure.returncode == 2
    assert "2 -> 1 edges" in unsure.stderr
    dry = stage.json("fleet", "drain", name, "--dry-run")
    assert dry["effect"] == (
        f"{name}: 0 viewers; 2 -> 1 edges; -$0.031 an hour; room elsewhere: 400; "
        "it ends when it is empty, in 60 s at the latest"
    )
    assert dry["deadline_s"] == 60  # where none is given
    assert stage.process(name) == record

    unknown = stage.run("fleet", "drain", "edge-99", "--yes", check=False)
    assert unknown.returncode == 1
    assert name in unknown.stderr

    drained = stage.json("fleet", "drain", name, "--deadline", "20s", "--yes", "--wait", timeout=90)
    assert set(drained) == DRAIN
    assert (drained["node"], drained["state"]) == (name, "terminated")
    wait_until(lambda: not alive(record), 10, "its process has ended")
    entry = json.loads(journal.until(rf'"node.draining".*"{name}"'))
    assert entry["actor"] == "operator"
    journal.until(rf'"node.terminated".*"{name}"')
    plain.until(f"{name} is terminated")
    assert (journal.end(), plain.end()) == (0, 0)
    late = stage.run("fleet", "undo", name, check=False)
    assert late.returncode == 1
    assert f"there is no node {name}" in late.stderr
    assert "Nodes: " in late.stderr


def test_the_journal_tells_what_happened(stage: Stage) -> None:
    entries = stage.json("journal", "-n", "5")
    assert 1 <= len(entries) <= 5
    assert {"id", "at", "actor", "kind", "subject", "message"} <= set(entries[0])
    assert entries[-1]["message"] in stage.run("journal").stdout
    none = stage.run("journal", "-n", "0")
    assert (none.stdout, none.stderr) == ("", "")  # none were asked for: nothing is said of the journal


def test_logs_are_listed_shown_and_followed(stage: Stage, follow: Callable[..., Following]) -> None:
    names = {log["name"] for log in stage.json("logs")}
    assert {"supervisor", "manager", "origin-1", "edge-1"} <= names
    assert "stream manager listens" in stage.run("logs", "supervisor").stdout
    lines = stage.run("logs", "supervisor", "--json", "-n", "2").stdout.splitlines()
    assert len(lines) == 2
    assert all("event" in json.loads(line) for line in lines)
    assert stage.run("logs", "edge-1/worker-0").stdout
    following = follow("logs", "manager", "-f", "-n", "1")
    following.until(".")
    with (stage.home / "logs" / "manager.log").open("a") as log:
        log.write("a line that came later\n")
    following.until("came later")
    assert following.end() == 0


def test_a_session_of_a_node_is_looked_into(stage: Stage) -> None:
    stage.run("publish", "test", "--channel", "looked-at", "--detach")
    found = stage.json("node", "inspect", "origin-1")
    assert set(found) == {"node", "reported_at", "workers", "sessions", "streams"}

    def publisher() -> str | None:
        rows = stage.json("node", "inspect", "origin-1")["sessions"]
        return next((row["id"] for row in rows if row["channel"] == "looked-at"), None)

    session = wait_until(publisher, 15, "the node tells of the publisher")
    whole = stage.json("node", "inspect", "origin-1", session)
    assert (whole["id"], whole["node"], whole["kind"]) == (session, "origin-1", "whip")
    assert whole["dtls"]["matched"] is True
    plain = stage.run("node", "inspect", session[:8]).stdout
    assert plain.startswith("publisher of looked-at on origin-1 (worker 0), connected for ")
    assert f"session {session}" in plain
    assert "its certificate is the one that its SDP names" in plain
    for words, message in (
        (
            ("nothing-here",),
            "there is no node and no session nothing-here. Nodes: edge-1, origin-1. Sessions: ",
        ),
        (("edge-77", session), "There is no node edge-77. Nodes: edge-1, origin-1."),
        (("edge-1", session), f"There is no session {session} on edge-1. Sessions: "),
    ):
        refused = stage.run("node", "inspect", *words, check=False)
        assert refused.returncode == 1
        assert message in refused.stderr
    stage.run("streams", "stop", "looked-at", "--yes")


def test_a_probe_watches_a_channel_by_its_name(stage: Stage) -> None:
    stage.publish_test("probed", "--bitrate", "1M")
    try:
        seen = stage.json("probe", "probed", "--seconds", "3", timeout=60)
        assert seen["frames"] > 30
    finally:
        stage.stop("probed")


def test_a_swarm_watches_a_channel_by_its_name(stage: Stage) -> None:
    stage.publish_test("crowded", "--bitrate", "1M")
    try:
        words = ["--viewers", "5", "--ramp", "5", "--seconds", "3", "--late", "500"]
        seen = stage.json("swarm", "crowded", *words, timeout=60)
        assert (seen["playing"], seen["failed"], seen["unauthentic"]) == (5, 0, 0)
        assert seen["bitrate_bps"] == pytest.approx(1e6, rel=0.3)
        assert seen["latency_ms"]["p50"] > 0
        words = ["--viewers", "2", "--ramp", "4", "--stay", "1.5", "--seconds", "1"]
        assert stage.json("swarm", "crowded", *words, timeout=60)["left"] > 0
    finally:
        stage.stop("crowded")
    nothing = stage.run("swarm", "crowded", "--viewers", "2", "--json", check=False)
    assert nothing.returncode == 1
    assert any("nothing is on air" in reason for reason in json.loads(nothing.stdout)["reasons"])


def test_a_simulated_fleet_comes_to_real_nodes_only_when_that_is_meant(stage: Stage) -> None:
    asked = stage.run("swarm", "signalling", "--nodes", "2", "--joins", "16", check=False)
    assert asked.returncode == 2
    assert "the stage has real nodes (" in asked.stderr
    assert "2 simulated edges and 16 viewers" in asked.stderr


def test_a_node_started_by_hand_joins_and_leaves(stage: Stage) -> None:
    def others() -> set[str]:
        return {node["id"] for node in stage.json("nodes") if node["state"] == "in_service"}

    before = others()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        tcp_port = probe.getsockname()[1]
    node = subprocess.Popen(
        command_line("node", "--role", "edge", "--tcp-port", str(tcp_port)),
        env=environment(stage.home),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: len(others() - before) == 1, 20, "it is in service")
        socket.create_connection(("127.0.0.1", tcp_port), timeout=5).close()
        node.send_signal(signal.SIGINT)
        assert node.wait(10) == 0
        wait_until(lambda: others() == before, 20, "it is missed")
    finally:
        node.kill()
        node.wait()


def test_what_the_stage_costs_in_words_and_as_json(stage: Stage) -> None:
    cost = stage.json("fleet", "cost")
    assert set(cost) == {"at", "prices", "now", "today", "month", "asked", "event", "forecast", "budget"}
    assert cost["now"]["nodes"] == 2
    assert cost["now"]["nodes_hour"] == 0.062
    assert cost["asked"] is None
    assert stage.json("fleet", "cost", "--on", "last:24h")["asked"]["node_hours"] > 0
    words = stage.run("fleet", "cost").stdout
    assert words.startswith("now      $0.062 an hour: 2 nodes $0.062, egress ")
    assert "(10,000 GB of this month are still free)" in words
    assert re.search(r"^this month .*GB +\$0\.00 ", words, re.MULTILINE)
    assert "If as many nodes run (2) and as much is sent as now until the month ends: " in words
    assert "budget   none ([budget] in the settings of the manager)" in words
    wrong = stage.run("fleet", "cost", "--on", "yesterday", check=False)
    assert wrong.returncode == 2
    assert "Write it like this-month, last:24h" in wrong.stderr
    assert stage.run("fleet", "cost", "--on", "event:none", check=False).returncode == 1
