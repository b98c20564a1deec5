"""The watch page restarts ICE when the network changes, before it thinks of another session."""

from typing import Any

import pytest

from tests.browser.stand import Stand
from tests.support.chromium import OpenPage
from tests.support.show import plays_on
from tests.support.stage import Stage
from tests.support.wait import wait_for

pytestmark = pytest.mark.browser

LINKS = (
    '</whep/main/1/events>; rel="urn:ietf:params:whep:ext:core:server-sent-events"; events="active,move", '
    '<stun:stun.example.net>; rel="ice-server", '
    '<turn:turn.example.net?transport=udp>; rel="ice-server"; username="a, \\"b\\""; credential="c\\\\d;"; '
    'credential-type="password", <turns:turn.example.net>; rel=ice-server; username=u; credential=p'
)


@pytest.mark.stage
async def test_another_network_is_another_way_and_no_other_session(
    stage: Stage, watch_page: OpenPage
) -> None:
    stage.publish_test("main")
    watch = await watch_page(f"{stage.watch}/main")
    patched: list[Any] = []
    watch.page.on("response", lambda it: patched.append(it) if it.request.method == "PATCH" else None)
    await plays_on(watch, "it was opened")
    for times in (1, 2):
        await watch.page.evaluate("dispatchEvent(new Event('online'))")
        await wait_for(lambda times=times: len(patched) == times, 10, "ICE is restarted")
        await plays_on(watch, "the restart")
    assert [answer.status for answer in patched] == [200, 200]
    assert len({answer.headers["etag"] for answer in patched}) == 2
    facts = await watch.facts()
    assert (facts["state"], facts["sessions"]) == ("playing", 1)
    assert [state for state, _ in await watch.history()].count("reconnecting") == 0
    (stream,) = stage.json("streams")
    assert stream["viewers"] == 1


async def test_a_server_that_does_not_restart_ice_is_not_left_for_it(
    stand: Stand, watch_page: OpenPage
) -> None:
    watch = await watch_page(stand.watch)
    await plays_on(watch, "it was opened")
    refused: list[int] = []
    watch.page.on("response", lambda it: refused.append(it.status) if it.request.method == "PATCH" else None)
    await watch.page.evaluate("dispatchEvent(new Event('online'))")
    await wait_for(lambda: refused == [405], 10, "the restart is refused")
    await plays_on(watch, "the refusal")
    assert (await watch.facts())["sessions"] == 1


async def test_what_the_page_reads_and_writes_for_it(stand: Stand, watch_page: OpenPage) -> None:
    watch = await watch_page(stand.watch)

    async def call(name: str, *arguments: str) -> Any:
        call = f"async (given) => (await import('/static/whep.js')).{name}(...given)"
        return await watch.page.evaluate(call, list(arguments))

    assert await call("iceServersOf", LINKS) == [
        {"urls": "stun:stun.example.net"},
        {"urls": "turn:turn.example.net?transport=udp", "username": 'a, "b"', "credential": "c\\d;"},
        {"urls": "turns:turn.example.net", "username": "u", "credential": "p"},
    ]
    assert await call("iceServersOf", "") == []
    old = "a=ice-ufrag:old\r\na=ice-pwd:older\r\n"
    section = f"m=video 9 UDP/TLS/RTP/SAVPF 96\r\n{old}a=setup:actpass\r\na=mid:0\r\n"
    offer = f"v=0\r\na=ice-options:trickle\r\n{section}{section.replace('mid:0', 'mid:1')}"
    assert await call("fragmentOf", offer) == (
        f"a=ice-options:trickle\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:0\r\n{old}"
    )
    candidate = "a=candidate:1 1 udp 1 192.0.2.1 9 typ host"
    new = f"a=ice-ufrag:new\r\na=ice-pwd:newer\r\n{candidate}\r\na=end-of-candidates\r\n"
    fragment = f"a=ice-lite\r\na=mid:0\r\n{new}"
    fresh = await call("withTransport", f"{offer}a=candidate:9 gone\r\na=end-of-candidates\r\n", fragment)
    assert fresh == offer.replace(old, new)
