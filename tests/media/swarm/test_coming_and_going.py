"""A crowd whose viewers stay only so long, before doors that do not let them in."""

import asyncio

from media.core.sdp import Agreed, LocalDescription
from media.publisher.errors import Refused
from media.swarm.crowd import Crowd
from media.swarm.second import add_up
from tests.support.wait import wait_for


class ClosedDoor:
    """Refuses, or keeps everybody waiting."""

    url = "http://127.0.0.1:9/whep/main"

    def __init__(self, *, answers: bool) -> None:
        self._answers = answers
        self.waiting = 0

    async def enter(self, local: LocalDescription) -> tuple[Agreed, str]:
        if self._answers:
            raise Refused("the house is full", "Come again.")
        self.waiting += 1
        try:
            await asyncio.Event().wait()
        finally:
            self.waiting -= 1
        raise AssertionError

    async def leave(self, ticket: str) -> None:
        raise AssertionError("nobody was let in")

    async def close(self) -> None:
        pass


async def test_who_is_not_let_in_in_time_has_failed_and_the_next_comes_all_the_same() -> None:
    door = ClosedDoor(answers=False)
    crowd = Crowd(door, viewers=2, ramp=100.0, stay=0.05)
    coming = asyncio.create_task(crowd.come())
    seconds = [crowd.second()]

    def seen() -> bool:
        seconds.append(crowd.second())
        return seconds[-1].failed >= 6

    await wait_for(seen, 10, "the third turn is over")
    coming.cancel()
    last = seconds[-1]
    assert last.reasons == {"no picture within 0.05 s": last.failed}
    assert (last.playing, last.left) == (0, 0)
    assert last.failed <= last.viewers <= last.failed + 2, "a slow door is asked no less often"
    assert door.waiting == last.viewers
    await crowd.leave()
    assert door.waiting == 0


async def test_a_refusal_is_told_once_although_its_time_is_over_later() -> None:
    crowd = Crowd(ClosedDoor(answers=True), viewers=2, ramp=100.0, stay=0.05)
    coming = asyncio.create_task(crowd.come())
    await wait_for(lambda: crowd.second().viewers >= 6, 10, "the third turn has come")
    coming.cancel()
    total = add_up([crowd.second()])
    assert total.reasons == {"the house is full": total.failed}
    assert total.failed <= total.viewers
    await crowd.leave()
