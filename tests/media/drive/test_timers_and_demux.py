"""Deadlines of many keys on one timer; datagrams to the session they are for."""

import asyncio

from media.core import stun
from media.drive.demux import ADDRESSES_A_PEER, Demux
from media.drive.timers import Timers


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
    for port in range(ADDRESSES_A_PEER + 1):
        demux.bind("a", ("192.0.2.1", port))
    assert demux.find(media, ("192.0.2.1", 0)) is None
    assert demux.find(media, ("192.0.2.1", 1)) == "first"
    demux.bind("b", ("192.0.2.1", 1))
    demux.remove("a")
    assert demux.find(media, ("192.0.2.1", 1)) == "second"
    assert demux.find(media, ("192.0.2.1", 2)) is None
    demux.bind("gone", ("192.0.2.1", 3))
    assert demux.find(media, ("192.0.2.1", 3)) is None
