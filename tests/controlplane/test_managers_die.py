"""Managers as processes on MariaDB, killed and stopped as they launch; and their database, as people join.

The cloud they launch in is a process of another kind, asked over HTTP (tests/controlplane/cloud): it loses
answers, is late and lists in part, and its nodes enrol and report. How many deaths there are may be said:
SHOWCALLER_DEATHS=50 make test PYTEST_ARGS="-n 0 -s tests/controlplane/test_managers_die.py -k killed"
"""

import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from controlplane.wire.nodes import Role
from tests.controlplane.cloud.managers import PATIENCE_S, Managers, managers
from tests.controlplane.cloud.server import HttpCloud, serving
from tests.controlplane.fake_node import OFFER, FakeNode
from tests.support.mariadb import Mariadb
from tests.support.wait import wait_until

NODES = 20
DEATHS = int(os.environ.get("SHOWCALLER_DEATHS", "2"))
LEASE_S = 1.0
SETTINGS = f"""
[fleet]
origins = 0
edges = {NODES}
boot_timeout_s = 20.0
faults_stop = 1000
[lease]
length_s = {LEASE_S}
"""


@pytest.fixture
def cloud() -> Iterator[HttpCloud]:
    with serving() as served:
        yield served


@pytest.fixture
def show(mariadb: Mariadb, tmp_path: Path, cloud: HttpCloud) -> Iterator[Managers]:
    with managers(mariadb, tmp_path, SETTINGS, cloud.url) as made:
        yield made


@dataclass
class At:
    """Sends a signal to a manager at the `moment`-th of the moments of its launches."""

    show: Managers
    name: str
    moment: int
    number: signal.Signals
    delay_s: float = 0.0
    seen: int = 0
    where: str = ""
    done: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, where: str) -> None:
        """Called by the threads of the cloud."""
        with self.lock:
            self.seen += 1
            its_moment = self.seen == self.moment
        if its_moment:
            time.sleep(self.delay_s)  # not a wait: the moment lies so much later
            self.show.signal(self.name, self.number)
            self.where, self.done = where, True

    def until_done(self) -> None:
        wait_until(lambda: self.done, PATIENCE_S, f"{self.name} is sent {self.number.name}")


def as_wanted(show: Managers, cloud: HttpCloud) -> bool:
    """Each row has its instance and each instance its row, all are in service, and nothing is open."""
    rows = {name: pid for name, state, pid in show.rows() if state == "in_service"}
    there = {it.node: it.pid for it in cloud.instances()}
    return len(show.rows()) == len(cloud.instances()) == NODES and rows == there and not show.open_acts()


def until_as_wanted(show: Managers, cloud: HttpCloud) -> None:
    try:
        wait_until(lambda: as_wanted(show, cloud), PATIENCE_S, "twenty nodes and nothing else")
    except AssertionError as error:
        states = [row for row in show.rows() if row[1] != "in_service"]
        open_acts = show.sql("SELECT kind, node, token, at FROM acts WHERE outcome IS NULL")
        raise AssertionError(
            f"{len(show.rows())} rows, {len(cloud.instances())} instances; not in service: {states}; "
            f"open: {open_acts}; " + "\n".join(show.log(name) for name in show.running)
        ) from error


def test_killed_at_random_moments_there_are_twenty_nodes_and_no_orphan(
    show: Managers, cloud: HttpCloud
) -> None:
    """kill -9 of the one that leads. Every second time it is started again at once and takes its own lease
    over, else the other one takes it. Then all nodes lose their power, and the next twenty are launched."""
    chance = random.Random(38)
    show.start("a", "b")
    cloud.managers = show.apis()
    until_as_wanted(show, cloud)
    for death in range(DEATHS):
        leader = show.leader()
        assert leader is not None
        other = "b" if leader == "a" else "a"
        at = At(show, leader, chance.randrange(1, 2 * NODES), signal.SIGKILL, chance.random() * 0.03)
        cloud.moment = at
        cloud.cloud.chance = random.Random(death)
        began, ended, launched = time.monotonic(), cloud.cloud.ended, len(cloud.cloud.launched)
        cloud.power_cut()
        at.until_done()
        show.kill(leader)
        if death % 2:
            show.start(leader)
            cloud.managers = show.apis()
        else:
            show.until_it_leads(other)
        wait_until(lambda: len(cloud.instances()) >= NODES, PATIENCE_S, "the other has launched")
        cloud.cloud.chance = None
        listings = cloud.listings
        until_as_wanted(show, cloud)
        print(
            f"{death + 1}: killed at moment {at.moment} ({at.where}), {'same' if death % 2 else 'other'}; "
            f"{time.monotonic() - began:.1f} s, {cloud.listings - listings} listings, "
            f"{len(cloud.cloud.launched) - launched} launched, {cloud.cloud.ended - ended - NODES} ended"
        )
        if leader not in show.running:
            show.start(leader)
            cloud.managers = show.apis()


@pytest.mark.parametrize("seed", range(max(1, DEATHS // 5)))
def test_stopped_for_two_leases_nothing_is_done_twice(show: Managers, cloud: HttpCloud, seed: int) -> None:
    """SIGSTOP at some moment of its launches, SIGCONT when another one has launched all that was wanted."""
    moment = random.Random(seed).randrange(NODES // 2, 2 * NODES)
    at = At(show, "a", moment, signal.SIGSTOP)
    cloud.moment = at
    show.begin("a")
    at.until_done()
    stopped_at = time.monotonic()
    show.start("b")
    cloud.managers = show.apis()
    show.until_it_leads("b")
    until_as_wanted(show, cloud)
    wait_until(lambda: time.monotonic() - stopped_at > 2 * LEASE_S, PATIENCE_S, "two leases are over")
    rows, launched, ended = show.rows(), list(cloud.cloud.launched), cloud.cloud.ended
    ((last_act, token),) = show.sql("SELECT MAX(id), MAX(token) FROM acts")
    ((last_entry,),) = show.sql("SELECT MAX(id) FROM journal")
    show.signal("a", signal.SIGCONT)
    show.started("a")
    seen = "SELECT seen_at FROM managers WHERE id = '" + show.running["a"].id + "'"
    ((now,),) = show.sql("SELECT UNIX_TIMESTAMP(SYSDATE(6))")
    seen += f" AND seen_at > {float(now) + 2 * LEASE_S}"
    wait_until(lambda: show.sql(seen), PATIENCE_S, "it works again")
    assert show.leader() == "b"
    until_as_wanted(show, cloud)  # a launch that was on its way has made an orphan, and it is ended
    assert show.rows() == rows
    late = cloud.cloud.launched[len(launched) :]
    assert cloud.cloud.ended - ended == len(late)
    begun = {retry for (retry,) in show.sql(f"SELECT retry FROM acts WHERE id <= {last_act}")}
    assert begun >= set(late)  # on their way, and announced long before
    assert not show.sql(f"SELECT * FROM acts WHERE id > {last_act} AND token < {token}")
    kinds = [str(kind) for (kind,) in show.sql(f"SELECT kind FROM journal WHERE id > {last_entry}")]
    assert not [kind for kind in kinds if kind.startswith(("node.", "scale.", "fleet."))], kinds


def test_a_database_that_is_killed_while_people_join_has_kept_whoever_was_answered(
    own_mariadb: Mariadb, tmp_path: Path
) -> None:
    """kill -9 of the server, twice, while people join through two managers, which started at once on an empty
    database: whoever was told 201 has his session after, its seat is counted, and the managers go on."""
    with managers(own_mariadb, tmp_path, JOINS, empty=True) as show:
        show.start("a", "b")
        nodes = [by_hand(show, role) for role in (Role.ORIGIN, Role.EDGE, Role.EDGE)]
        joining = Joining([show.running[name].api for name in ("a", "b")])
        try:
            on_air(show, "a")
            joining.begin()
            for _ in range(2):
                joining.until_more(60)
                own_mariadb.kill()
                own_mariadb.start()
            joining.until_more(60)
        finally:
            answered = joining.end()
            for node in nodes:
                node.stop()
        rows = show.sql("SELECT id, node FROM sessions WHERE kind = 'whep' AND ended_at IS NULL")
        there = {str(session) for session, _ in rows}
        assert answered <= there, "an acknowledged join is lost"
        print(f"{len(answered)} were answered 201, {joining.failed} otherwise, {len(there)} rows")
        seats = Counter(str(node) for _, node in rows)
        reserved = {
            str(name): n for name, n in show.sql("SELECT id, reserved FROM nodes WHERE role = 'edge'")
        }
        assert {name: n for name, n in reserved.items() if n} == dict(seats)
        for name in ("a", "b"):
            assert show.running[name].popen.poll() is None
            assert len(show.get(name, "/nodes")) == 3


JOINS = """
[fleet]
edge_capacity = 100000
suspect_after_s = 60.0
faulty_after_s = 120.0
[lease]
length_s = 1.0
[viewers]
joining = 100000
joining_per_address = 100000
"""


def by_hand(show: Managers, role: Role) -> FakeNode:
    """A node that somebody started: it reports to one of the managers, and answers both."""
    invited = show.post("a", "/enrolments", {"role": role.value})
    node = FakeNode(show.running["a"].api, invited["token"], role, invited["node"])
    node.start()

    def serves() -> bool:
        return any(
            (it["id"], it["state"]) == (invited["node"], "in_service")
            for name in ("a", "b")
            for it in show.get(name, "/nodes")
        )

    wait_until(serves, PATIENCE_S, f"{node.name} is in service")
    return node


def on_air(show: Managers, name: str) -> None:
    """The channel main, live for both managers."""
    token = show.post(name, "/tokens", {"channel": "main"})["token"]
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/sdp"}
    api = show.running[name].api
    answer = httpx.post(f"{api}/whip/main", headers=headers, content=OFFER, trust_env=False, timeout=10.0)
    assert answer.status_code == 201, answer.text

    def live() -> bool:
        return all([it["state"] for it in show.get(it, "/streams")] == ["live"] for it in show.running)

    wait_until(live, PATIENCE_S, "main is live")


class Joining:
    """Eight people at a time who join at one manager or the other, again and again, and stay."""

    def __init__(self, apis: list[str]) -> None:
        self._apis = apis
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._join, args=(n,)) for n in range(8)]
        self._answered: list[str] = []
        self.failed = 0
        self.wrong: list[str] = []

    def begin(self) -> None:
        for thread in self._threads:
            thread.start()

    def _join(self, number: int) -> None:
        url = f"{self._apis[number % len(self._apis)]}/whep/main"
        with httpx.Client(trust_env=False, timeout=40.0) as http:
            while not self._stop.is_set():
                answer = http.post(url, headers={"Content-Type": "application/sdp"}, content=OFFER)
                if answer.status_code == 201:
                    self._answered.append(answer.headers["Location"].rpartition("/")[2])
                else:
                    self.failed += 1
                    if answer.status_code != 503:
                        self.wrong.append(answer.text)
                    self._stop.wait(0.1)

    def until_more(self, number: int) -> None:
        enough = len(self._answered) + number
        wait_until(lambda: len(self._answered) >= enough, PATIENCE_S, "more have joined")

    def end(self) -> set[str]:
        self._stop.set()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()
        assert not self.wrong, self.wrong[:3]
        return set(self._answered)
