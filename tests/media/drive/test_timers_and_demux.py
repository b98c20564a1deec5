"""Deadlines of many keys on one timer; datagrams to the session they are for."""

import asyncio
from typing import Any, cast

from media.core import stun
from media.core.address import TcpAddress
from media.drive.demux import ADDRESSES_A_PEER, QUESTIONS_A_PEER, SUSPECTS, Demux
from media.drive.timers import Timers
from tests.media.recovery.world import World


async def test_deadlines_fire_in_order_and_the_latest_wish_of_a_key_counts() -> None:
    loop = asyncio.get_running_loop()
    timers = Timers(loop)
    fired: list[str] = []
    done = asyncio.Event()
    start = loop.time()
    timers.set("moved later", start + 0.01, lambda now: fired.append("moved later, too early"))
    timers.set("moved later", start + 0.04, lambda now: fired.append("moved later"))
    timers.set("moved earlier", start + 0.09, lambda now: fired.append("moved earlier, too late"))
    timers.set("moved earlier", start + 0.02, lambda now: fired.append("moved earlier"))
    timers.set("cancelled", start + 0.03, lambda now: fired.append("cancelled"))
    timers.cancel("cancelled")
    timers.set("cancelled too", start + 0.03, lambda now: fired.append("cancelled too"))
    timers.set("cancelled too", None, lambda now: None)

    def again(now: float) -> None:
        fired.append("again")
        if fired.count("again") < 3:
            timers.set("again", now + 0.03, again)
        else:
            done.set()

    timers.set("again", start + 0.03, again)
    await asyncio.wait_for(done.wait(), 5)
    assert fired == ["moved earlier", "again", "moved later", "again", "again"]
    assert len(timers) == 0
    timers.set("never", loop.time(), lambda now: fired.append("never"))
    timers.close()
    await asyncio.sleep(0)
    assert "never" not in fired


async def test_a_deadline_is_never_before_its_time() -> None:
    loop = asyncio.get_running_loop()
    timers = Timers(loop)
    moment: asyncio.Future[float] = loop.create_future()
    at = loop.time() + 0.02
    timers.set("key", at, moment.set_result)
    assert await asyncio.wait_for(moment, 5) >= at


async def test_a_callback_that_fails_is_reported_and_the_other_deadlines_are_kept() -> None:
    loop = asyncio.get_running_loop()
    reported: list[object] = []
    loop.set_exception_handler(lambda _, context: reported.append(context["exception"]))
    timers = Timers(loop)
    kept = asyncio.Event()
    fault = RuntimeError("a fault")

    def fail(now: float) -> None:
        raise fault

    timers.set("fails", loop.time() + 0.005, fail)
    timers.set("kept", loop.time() + 0.01, lambda now: kept.set())
    await asyncio.wait_for(kept.wait(), 5)
    assert reported == [fault]


async def test_a_deadline_that_is_always_due_lets_the_others_have_their_turn() -> None:
    loop = asyncio.get_running_loop()
    timers = Timers(loop)
    turns = 0

    def again(now: float) -> None:
        nonlocal turns
        turns += 1
        if turns < 1000:
            timers.set("again", now, again)

    timers.set("again", loop.time(), again)
    for _ in range(20):
        await asyncio.sleep(0)
    assert 0 < turns < 1000
    timers.close()


def test_packets_get_their_turn_however_many_deadlines_have_passed() -> None:
    world = World()
    timers = Timers(cast(Any, world))
    fired = 0

    def work(now: float) -> None:
        nonlocal fired
        fired += 1
        world.now += 0.001

    due = world.time() + 1.0
    for number in range(100):
        timers.set(number, due, work)
    fired_before_packets: list[int] = []
    for number in range(5):
        world.call_at(due + 0.0001 + 0.01 * number, lambda: fired_before_packets.append(fired))
    world.run_for(2)
    assert fired == 100
    assert fired_before_packets[0] <= 4
    assert fired_before_packets[1] <= 15


def request(ours: str) -> bytes:
    message = stun.Message(
        stun.Class.REQUEST, b"t" * 12, ((stun.Attribute.USERNAME, f"{ours}:theirs".encode()),)
    )
    return message.to_bytes(b"a key that the demux does not check")


def test_strangers_may_only_send_binding_requests_that_name_a_session() -> None:
    demux: Demux[str] = Demux()
    demux.add("ufrag", "peer")
    somewhere = ("192.0.2.1", 5000)
    assert demux.find(request("ufrag"), somewhere) == "peer"
    assert demux.find(request("other"), somewhere) is None
    assert demux.find(b"\x16\xfe\xfd" + b"x" * 40, somewhere) is None  # DTLS
    assert demux.find(b"\x80\x60" + b"x" * 40, somewhere) is None  # RTP
    assert demux.find(b"", somewhere) is None
    assert demux.strangers == 4
    demux.bind("ufrag", somewhere)
    assert demux.find(b"\x80\x60" + b"x" * 40, somewhere) == "peer"
    demux.remove("ufrag")
    assert demux.find(b"\x80\x60" + b"x" * 40, somewhere) is None
    assert len(demux) == 0


def test_a_peer_keeps_few_addresses_and_one_taken_over_stays_with_the_newer_peer() -> None:
    demux: Demux[str] = Demux()
    demux.add("a", "first")
    demux.add("b", "second")
    media = b"\x80\x60"
    for port in range(ADDRESSES_A_PEER):
        assert demux.bind("a", ("192.0.2.1", port)) is None
    assert demux.bind("a", ("192.0.2.1", ADDRESSES_A_PEER)) == ("192.0.2.1", 0)
    assert demux.find(media, ("192.0.2.1", 0)) is None
    assert demux.find(media, ("192.0.2.1", 1)) == "first"
    demux.bind("b", ("192.0.2.1", 1))
    assert demux.remove("a") == [("192.0.2.1", port) for port in range(1, ADDRESSES_A_PEER + 1)]
    assert demux.find(media, ("192.0.2.1", 1)) == "second"
    assert demux.find(media, ("192.0.2.1", 2)) is None
    demux.bind("gone", ("192.0.2.1", 3))
    assert demux.find(media, ("192.0.2.1", 3)) is None


def answer(transaction: bytes) -> bytes:
    return stun.Message(stun.Class.SUCCESS, transaction).to_bytes(b"a key that the demux does not check")


def report(ssrc: bytes) -> bytes:
    return b"\x81\xc9\x00\x07" + ssrc + bytes(24)


def test_after_an_ice_restart_a_peer_has_other_names_and_its_addresses_still() -> None:
    demux: Demux[str] = Demux()
    demux.add("first", "peer")
    demux.bind("first", ("192.0.2.1", 1))
    demux.answer_to("first", ("first", "second"))
    somewhere = ("192.0.2.1", 2)
    assert demux.find(request("first"), somewhere) == demux.find(request("second"), somewhere) == "peer"
    demux.answer_to("first", ("second", "third"))
    assert demux.find(request("first"), somewhere) is None
    assert demux.find(request("third"), somewhere) == "peer"
    assert len(demux) == 1
    demux.bind("first", somewhere)  # the name it was added with stays its name here
    assert demux.find(report(b"ssrc"), somewhere) == "peer"
    demux.remove("first")
    assert demux.find(request("second"), somewhere) is None
    assert demux.find(report(b"ssrc"), somewhere) is None
    demux.answer_to("first", ("fourth",))
    assert demux.find(request("fourth"), somewhere) is None


def test_the_answer_to_a_question_of_ours_may_come_from_anywhere_and_no_other() -> None:
    demux: Demux[str] = Demux()
    demux.add("a", "peer")
    somewhere = ("192.0.2.1", 1)
    numbers = [bytes(11) + bytes((n,)) for n in range(QUESTIONS_A_PEER + 1)]
    assert demux.find(answer(numbers[0]), somewhere) is None
    for number in numbers:
        demux.expect("a", number)
    assert demux.find(answer(numbers[0]), somewhere) is None  # so many are remembered
    assert demux.find(answer(numbers[1]), somewhere) == "peer"
    assert demux.find(answer(b"never asked."), somewhere) is None
    demux.remove("a")
    assert demux.find(answer(numbers[1]), somewhere) is None


def test_media_of_unknown_origin_is_of_those_who_speak_with_its_ssrc() -> None:
    demux: Demux[str] = Demux()
    for name, ssrc in (("a", b"ssrA"), ("b", b"ssrB")):
        demux.add(name, name)
        demux.bind(name, ("192.0.2.1", ord(name)))
        demux.speaks(name, [ssrc])
    elsewhere = ("198.51.100.1", 1)
    assert demux.suspects(report(b"ssrA"), elsewhere) == ["a"]
    assert demux.suspects(b"\x80\x66" + bytes(6) + b"ssrB" + bytes(20), elsewhere) == ["b"]
    assert demux.suspects(report(b"none"), elsewhere) == []
    assert demux.suspects(b"\x80\x66" + bytes(6), elsewhere) == []
    assert demux.suspects(request("a"), elsewhere) == []
    demux.remove("a")
    assert demux.suspects(report(b"ssrA"), elsewhere) == []


def test_a_peer_that_has_sent_no_media_yet_is_suspected_on_its_own_host() -> None:
    demux: Demux[str] = Demux()
    demux.add("a", "a")
    demux.bind("a", ("192.0.2.1", 1))
    assert demux.suspects(report(b"ssrA"), ("192.0.2.1", 2)) == ["a"]
    assert demux.suspects(report(b"ssrA"), ("192.0.2.2", 2)) == []
    demux.speaks("a", [b"ssrA"])
    assert demux.suspects(report(b"ssrA"), ("192.0.2.2", 2)) == ["a"]
    assert demux.suspects(report(b"ssrB"), ("192.0.2.1", 2)) == []
    demux.remove("a")
    assert demux._by_voice == {}


def test_among_many_with_one_ssrc_those_on_the_same_host_are_tried() -> None:
    """Browsers that only watch all report with the SSRC 1."""
    demux: Demux[str] = Demux()
    one = (1).to_bytes(4, "big")
    for number in range(100):
        name = f"viewer{number}"
        demux.add(name, name)
        demux.speaks(name, [one])
        demux.bind(name, (f"192.0.2.{number % 20}", 1000 + number))
    assert demux.suspects(report(one), ("192.0.2.7", 1)) == [f"viewer{n}" for n in range(7, 100, 20)]
    assert demux.suspects(report(one), ("198.51.100.1", 1)) == []
    demux.bind("viewer0", ("192.0.2.7", 2))
    assert "viewer0" in demux.suspects(report(one), ("192.0.2.7", 1))
    for number in range(100):
        demux.bind(f"viewer{number}", ("203.0.113.1", number))
    assert len(demux.suspects(report(one), ("203.0.113.1", 5000))) == SUSPECTS
    for number in range(100):
        demux.remove(f"viewer{number}")
    assert demux.suspects(report(one), ("203.0.113.1", 5000)) == []
    assert demux._by_voice == {}


def test_a_tcp_connection_and_a_udp_address_of_the_same_numbers_are_two() -> None:
    demux: Demux[str] = Demux()
    demux.add("a", "first")
    first, second = TcpAddress("192.0.2.1", 5000, 1), TcpAddress("192.0.2.1", 5000, 2)
    demux.bind("a", first)
    media = b"\x80\x60"
    assert demux.find(media, first) == demux.at(first) == "first"
    assert demux.find(media, ("192.0.2.1", 5000)) is None
    assert demux.find(media, second) is None
    demux.unbind("a", first)
    assert demux.find(media, first) is None
    demux.unbind("a", first)
    demux.unbind("nobody", first)
    assert demux.remove("a") == []
