"""Who may be joining at once: nobody holds the seats of a stage with sessions that never connect."""

from pathlib import Path

import pytest

from controlplane.errors import TooMany, Unavailable
from controlplane.services import joining
from controlplane.services.joining import source_of
from controlplane.wire.nodes import SessionKind
from tests.controlplane.fake_node import OFFER
from tests.controlplane.stage import SDP, Show, running, settings
from tests.support.wait import wait_for

ATTACKER, SOMEBODY = "203.0.113.5", "203.0.113.6"


@pytest.mark.parametrize(
    ("address", "source"),
    [
        ("203.0.113.5", "203.0.113.5"),
        ("::ffff:203.0.113.5", "203.0.113.5"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8::ffff:1", "2001:db8::/64"),
        ("2001:db8:0:1::1", "2001:db8:0:1::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("127.0.0.1", ""),
        ("127.9.9.9", ""),
        ("::1", ""),
        ("::ffff:127.0.0.1", ""),
        ("", ""),
        ("a-unix-socket", "a-unix-socket"),
    ],
)
def test_what_counts_as_one_address(address: str, source: str) -> None:
    assert source_of(address) == source


async def ask(show: Show, address: str) -> str:
    """A viewer's offer from this address; the id of its session."""
    return (await show.stage.manager.signaling.view("main", OFFER, address)).id


def connects_not(show: Show) -> None:
    """Whoever is given a session from now on never comes."""
    show.nodes["edge-1"].connects = False


def limited(**viewers: int) -> dict[str, dict[str, int]]:
    return {"viewers": viewers}


async def test_one_address_holds_few_seats_without_connecting(tmp_path: Path) -> None:
    async with running(tmp_path, settings(**limited(joining_per_address=5))) as show:
        await show.until({"origin-1": "in_service", "edge-1": "in_service"})
        await show.on_air()
        connects_not(show)
        for _ in range(5):
            await ask(show, ATTACKER)
        for _ in range(20):
            with pytest.raises(TooMany) as refused:
                await ask(show, ATTACKER)
            assert refused.value.retry_after_s
        assert show.board.seats_on("edge-1") == 5
        await ask(show, SOMEBODY)  # others come in as ever
        show.nodes["edge-1"].connects = True  # and so does the attacker, one for each that connects

        async def room() -> bool:
            try:
                await ask(show, ATTACKER)
            except TooMany:
                return False
            return True

        await wait_for(room, 10, "those who have connected join no more")


async def test_who_is_refused_or_leaves_is_joining_no_more(tmp_path: Path) -> None:
    async with running(tmp_path, settings(**limited(joining_per_address=2))) as show:
        await show.until({"origin-1": "in_service", "edge-1": "in_service"})
        await show.on_air()
        connects_not(show)
        show.nodes["edge-1"].failure = (406, "no_common_codec")
        for _ in range(5):
            with pytest.raises(Exception, match="as the node said"):
                await ask(show, ATTACKER)
        show.nodes["edge-1"].failure = None
        sessions = [await ask(show, ATTACKER) for _ in range(2)]
        with pytest.raises(TooMany):
            await ask(show, ATTACKER)
        await show.stage.manager.signaling.leave("main", sessions[0])

        async def room() -> bool:
            try:
                await ask(show, ATTACKER)
            except TooMany:
                return False
            return True

        await wait_for(room, 5, "a place of who has left is free")


async def test_all_together_are_limited_too(tmp_path: Path) -> None:
    async with running(tmp_path, settings(**limited(joining=6))) as show:
        await show.until({"origin-1": "in_service", "edge-1": "in_service"})
        await show.on_air()
        connects_not(show)
        for number in range(6):
            await ask(show, f"203.0.113.{number}" if number % 2 else "127.0.0.1")
        for address in ("203.0.113.99", "127.0.0.1"):
            with pytest.raises(Unavailable) as refused:
                await ask(show, address)
            assert refused.value.retry_after_s


async def test_it_is_said_over_http_with_the_time_to_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joining, "source_of", lambda address: "one of them")
    async with running(tmp_path, settings(**limited(joining_per_address=1, joining=50))) as show:
        await show.until({"origin-1": "in_service", "edge-1": "in_service"})
        await show.on_air()
        connects_not(show)
        assert (await show.whep()).status_code == 201
        refused = await show.whep()
        assert refused.status_code == 429
        assert refused.json()["code"] == "too_many_from_here"
        assert int(refused.headers["Retry-After"]) > 0
        assert refused.headers["Access-Control-Allow-Origin"] == "*"


async def test_a_header_does_not_make_somebody_else_of_a_peer(tmp_path: Path) -> None:
    """Were it believed, each of these would be an address of its own, or one that is limited."""
    async with running(tmp_path, settings(**limited(joining_per_address=1))) as show:
        await show.until({"origin-1": "in_service", "edge-1": "in_service"})
        await show.on_air()
        connects_not(show)
        for headers in ({}, {"X-Forwarded-For": ATTACKER}, {"Forwarded": f"for={ATTACKER}"}):
            for _ in range(3):
                answer = await show.http.post("/whep/main", headers=SDP | headers, content=OFFER)
                assert answer.status_code == 201
        kinds = [session.kind for session in show.board.sessions.values()]
        assert kinds.count(SessionKind.WHEP) == 9
