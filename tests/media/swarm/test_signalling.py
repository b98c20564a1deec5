"""A simulated fleet and its crowd, by real stream managers: processes of their own, HTTP, TLS, a database."""

import itertools
import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from media.swarm.signalling.joins import Crowd
from media.swarm.signalling.ledger import Ledger, Parties
from tests.support.managers import Managers, running_managers, swarm_environment
from tests.support.mariadb import PASSWORD, Mariadb
from tests.support.wait import wait_until

COMMAND_S = 60.0


def start(managers: Managers, *words: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "media.swarm", "signalling", *managers.words, *words, "--json"],
        env=swarm_environment(managers),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def figures(swarm: "subprocess.Popen[str]", code: int = 0) -> dict[str, Any]:
    said, words = swarm.communicate(timeout=COMMAND_S)
    assert swarm.returncode == code, words
    return dict(json.loads(said))


def wait_for_words(swarm: "subprocess.Popen[str]", words: str) -> None:
    assert swarm.stderr is not None
    assert any(words in line for line in swarm.stderr), f"it has ended without having said {words!r}"


@pytest.mark.stage
def test_a_crowd_joins_by_two_managers(mariadb: Mariadb, tmp_path: Path) -> None:
    name = mariadb.fresh()
    words = ("--nodes", "20", "--joins", "600", "--party-size", "8", "--over", "2")
    with running_managers(tmp_path, 2, mariadb.url(name), PASSWORD) as managers:
        said = figures(start(managers, *words))
        assert said["joins"] == {"asked": 600, "seated": 600, "refused": 0, "lost": 0, "left": 0}
        assert said["nodes"]["overfilled"] == []
        assert (said["nodes"]["edges"], said["nodes"]["capacity"]) == (20, 20 * 400)
        assert said["parties"]["whole"] + said["parties"]["split"] == 75
        assert said["parties"]["could_have_been_whole"] == 0
        assert [it["api"] for it in said["managers"]] == managers.apis
        assert all(it["seated"] > 100 and it["p99"] > 0 for it in said["managers"])
        assert {share["what"] for share in said["cpu"]} >= {
            *(f"stream manager {api}" for api in managers.apis),
            "swarm",
            "everything else",
        }
        # It has taken leave: nobody is on the books any more, and no node.
        ((open_sessions,),) = mariadb.sql(f"SELECT COUNT(*) FROM {name}.sessions WHERE ended_at IS NULL")
        assert open_sessions == 0
        states = f"SELECT DISTINCT state FROM {name}.nodes"
        wait_until(lambda: mariadb.sql(states) == [("terminated",)], 10, "every node has terminated")
    mariadb.drop(name)


@pytest.mark.stage
def test_nobody_is_lost_with_a_manager(mariadb: Mariadb, tmp_path: Path) -> None:
    name = mariadb.fresh()
    words = ("--nodes", "8", "--joins", "400", "--over", "4", "--abandon")
    with running_managers(tmp_path, 2, mariadb.url(name), PASSWORD) as managers:
        swarm = start(managers, *words)
        wait_for_words(swarm, "seated")
        os.kill(managers.pids[1], signal.SIGKILL)
        said = figures(swarm)
        assert said["joins"] == {"asked": 400, "seated": 400, "refused": 0, "lost": 0, "left": 0}
        assert said["nodes"]["overfilled"] == []
        assert said["managers"][1]["away"] > 0
    mariadb.drop(name)


@pytest.mark.stage
def test_a_full_fleet_refuses_and_is_not_overfilled(tmp_path: Path) -> None:
    settings = "[fleet]\nedge_capacity = 30\n"
    with running_managers(tmp_path, 1, settings=settings) as managers:
        said = figures(
            start(managers, "--nodes", "2", "--joins", "80", "--party-size", "1", "--over", "1", "--abandon")
        )
    assert said["joins"] == {"asked": 80, "seated": 60, "refused": 20, "lost": 0, "left": 0}
    assert (said["nodes"]["fullest"], said["nodes"]["overfilled"]) == (30, [])
    assert said["reasons"] == {"503 no_edge_with_room": 20}


@pytest.mark.stage
def test_who_is_done_leaves_and_a_signal_ends_it(tmp_path: Path) -> None:
    words = ("--nodes", "1", "--joins", "6000", "--over", "60", "--stay", "1", "--abandon")
    with running_managers(tmp_path, 1) as managers:
        swarm = start(managers, *words)
        for _ in range(3):
            wait_for_words(swarm, "seated")
        swarm.send_signal(signal.SIGINT)
        said = figures(swarm)
    joins = said["joins"]
    assert 0 < joins["seated"] == joins["asked"] == joins["left"] < 6000
    assert joins["lost"] == 0


def test_what_cannot_be_is_said(tmp_path: Path) -> None:
    with running_managers(tmp_path, 1) as managers:
        wrong = Managers(managers.apis, managers.pids, token="another")
        swarm = start(wrong, "--nodes", "1", "--joins", "1")
        _, words = swarm.communicate(timeout=COMMAND_S)
        assert swarm.returncode == 1
        assert "/api/v1/enrolments" in words
    swarm = start(managers, "--nodes", "1", "--joins", "1", "--abandon")
    _, words = swarm.communicate(timeout=COMMAND_S)
    assert swarm.returncode == 3
    assert json.loads(words.splitlines()[-1])["error"]["code"] == "no_connection"


# what is counted


def seat(ledger: Ledger, *viewers: tuple[str, str]) -> None:
    for node, party in viewers:
        number = len(ledger.nodes)
        ledger.came(node, f"s{number}", party, 1 + list(ledger.nodes.values()).count(node))


def test_a_party_that_was_split_although_there_was_room_is_told() -> None:
    ledger = Ledger()
    seat(ledger, ("a", "p"), ("b", "p"), ("b", "q"), ("b", "q"))
    assert ledger.parties(2, {"a": 2, "b": 3}) == Parties(whole=1, split=1, could_have_been_whole=1)


def test_a_party_for_which_no_node_had_room_could_not_be_whole() -> None:
    ledger = Ledger()
    seat(ledger, ("a", "p"), ("b", "p"))
    assert ledger.parties(2, {"a": 1, "b": 1}) == Parties(whole=0, split=1, could_have_been_whole=0)


def test_room_that_is_kept_for_a_party_is_nobody_elses() -> None:
    """q had to be split: the second seat of a was p's, who was late."""
    ledger = Ledger()
    seat(ledger, ("a", "p"), ("b", "q"), ("a", "p"), ("c", "q"))
    assert ledger.parties(2, {"a": 2, "b": 1, "c": 1}) == Parties(whole=1, split=1, could_have_been_whole=0)


def test_a_seat_that_was_left_is_there_again() -> None:
    ledger = Ledger()
    seat(ledger, ("a", "p"), ("a", "p"))
    ledger.left("a", "s0")
    ledger.left("a", "s1")
    seat(ledger, ("a", "q"), ("b", "q"))
    assert ledger.parties(2, {"a": 2, "b": 2}) == Parties(whole=1, split=1, could_have_been_whole=1)


def test_a_node_that_ever_had_too_many_is_told() -> None:
    ledger = Ledger()
    ledger.came("a", "s0", None, 1)
    ledger.came("a", "s1", None, 2)
    ledger.left("a", "s1")
    assert ledger.overfilled({"a": 1}) == ["a"]
    assert ledger.overfilled({"a": 2}) == []


@pytest.mark.parametrize("even", [False, True])
def test_everybody_comes_once_and_parties_come_together(even: bool) -> None:
    crowd = Crowd("main", joins=803, party_size=8, over_s=60.0, even=even, stay_s=None)
    arrivals = crowd.arrivals(random.Random(7))
    times = [at for at, _ in arrivals]
    assert times == sorted(times)
    assert 0 <= times[0] <= times[-1] <= 60
    of_party: dict[int, list[float]] = {}
    for at, party in arrivals:
        of_party.setdefault(party, []).append(at)
    assert sorted(map(len, of_party.values())) == [3, *[8] * 100]
    assert max(max(them) - min(them) for them in of_party.values()) < 12  # 5, as the pace is not even
    if even:
        assert {round(after - before, 6) for before, after in itertools.pairwise(times)} == {
            round(60 / 803, 6)
        }
    assert arrivals == crowd.arrivals(random.Random(7))
