"""A swarm in parties: so many who come one after the other say one word, and how many they are."""

import asyncio
from typing import Any

import httpx
import pytest

from media.core.sdp import LocalDescription
from media.publisher.errors import PublishError
from media.swarm import whep
from media.swarm.__main__ import main


async def come(door: whep.WhepDoor, times: int, monkeypatch: pytest.MonkeyPatch) -> list[httpx.URL]:
    """The addresses that so many were asked for at."""
    asked: list[httpx.URL] = []

    async def ask(http: Any, url: str, offer: str) -> whep.Answered:
        asked.append(httpx.URL(url))
        raise PublishError("nobody is there", "")

    monkeypatch.setattr(whep, "ask", ask)
    monkeypatch.setattr(whep, "make_relay_offer", lambda local: "v=0")
    local: LocalDescription = object()  # type: ignore[assignment]
    for _ in range(times):
        with pytest.raises(PublishError):
            await door.enter(local)
    return asked


def test_those_of_a_party_say_one_word_and_the_next_another(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> list[httpx.URL]:
        return await come(whep.WhepDoor("http://x/whep/main?region=far", party=3), 7, monkeypatch)

    asked = asyncio.run(run())
    words = [url.params["party"] for url in asked]
    assert [words.count(word) for word in dict.fromkeys(words)] == [3, 3, 1]
    assert {(url.params["size"], url.params["region"]) for url in asked} == {("3", "far")}


def test_who_comes_alone_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> list[httpx.URL]:
        return await come(whep.WhepDoor("http://x/whep/main"), 2, monkeypatch)

    assert [str(url) for url in asyncio.run(run())] == ["http://x/whep/main"] * 2


@pytest.mark.parametrize("party", ["0", "33"])
def test_a_party_of_none_or_of_too_many_is_refused(party: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["crowd", "--whep", "http://127.0.0.1:1/whep/main", "--party", party]) == 2
    assert "--party must be 1 to 32" in capsys.readouterr().err
