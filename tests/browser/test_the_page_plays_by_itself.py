"""The watch page, opened and left alone: it plays, waits, resumes and says what is the matter.

Each test does to the page what a stage does to it, on a small real server (stand.py), and never reloads it.
"""

import itertools
import re
import time

import pytest

from tests.browser.stand import Stand
from tests.support.chromium import OpenPage, WatchPage
from tests.support.wait import wait_for

pytestmark = pytest.mark.browser


async def plays(watch: WatchPage, deadline: float = 10.0) -> None:
    async def playing() -> bool:
        return await watch.state() == "playing"

    await wait_for(playing, deadline, f"the page plays ({await watch.facts()})")


async def shows_new_pictures(watch: WatchPage, deadline: float = 10.0) -> None:
    before = (await watch.facts())["frames"]

    async def more() -> bool:
        return bool((await watch.facts())["frames"] > before + 15)

    await wait_for(more, deadline, "half a second of new pictures")


async def was_in_state(watch: WatchPage, state: str, deadline: float = 10.0) -> None:
    async def there() -> bool:
        return any(was == state for was, _ in await watch.history())

    await wait_for(there, deadline, f"the page is, or was, in state {state}")


async def said(watch: WatchPage, words: str, deadline: float = 10.0) -> None:
    async def there() -> bool:
        return any(words in status for _, status in await watch.history())

    await wait_for(there, deadline, f"the status line says, or said, {words!r}")


async def test_it_plays_at_once_and_reads_the_time_code(stand: Stand, watch_page: OpenPage) -> None:
    stand.interval_s = 2.5  # longer than a page waits of its own accord
    watch = await watch_page(stand.watch)
    await plays(watch)
    await said(watch, "Live")

    async def measured() -> bool:
        facts = await watch.facts()
        return facts["latencyPixelMs"] is not None and facts["bitrateBps"] is not None

    await wait_for(measured, 10, "latency read from the picture, and a bitrate")
    await shows_new_pictures(watch)
    facts = await watch.facts()
    assert facts["firstFrameMs"] < 5000
    assert 0 <= facts["latencyPixelMs"] < 1000
    assert facts["bitrateBps"] > 10_000
    assert facts["sessions"] == 1
    assert facts["edge"] == "edge-1"
    assert "stereo=1" in stand.offers[0]

    viewer = stand.viewers[stand.made[0]]
    await wait_for(lambda: len(viewer.reports) >= 3, 15, "the page posts its latency, again and again")
    gaps = [after - before for before, after in itertools.pairwise(viewer.reported_at)]
    assert min(gaps) > stand.interval_s - 0.05, "and no more often than it was told"
    assert 0 <= viewer.reports[-1].latency_ms < 1000
    assert viewer.reports[-1].first_frame_ms == facts["firstFrameMs"]


async def test_it_waits_and_starts_by_itself(stand: Stand, watch_page: OpenPage) -> None:
    await stand.end()
    watch = await watch_page(stand.watch)
    await was_in_state(watch, "waiting")
    await said(watch, "Waiting for the broadcast")
    stand.begin()
    await plays(watch, deadline=3)
    facts = await watch.facts()
    assert facts["sessions"] == 1
    assert facts["firstFrameMs"] < 3000


async def test_a_move_makes_the_new_session_before_it_leaves_the_old(
    stand: Stand, watch_page: OpenPage
) -> None:
    watch = await watch_page(stand.watch)
    await plays(watch)
    await shows_new_pictures(watch)
    frozen = (await watch.facts())["frozenMs"]
    stand.move()
    await wait_for(
        lambda: stand.deleted == stand.made[:1] and len(stand.made) == 2, 10, "old session deleted"
    )
    await shows_new_pictures(watch)
    assert await watch.state() == "playing"
    assert [state for state, _ in await watch.history()] == ["connecting", "playing"]
    facts = await watch.facts()
    assert facts["frozenMs"] - frozen < 700
    assert facts["sessions"] == 2


async def test_a_seat_that_is_kept_elsewhere_is_taken_and_left_for_no_other(
    stand: Stand, watch_page: OpenPage
) -> None:
    watch = await watch_page(stand.watch)
    await plays(watch)
    await shows_new_pictures(watch)
    frozen = (await watch.facts())["frozenMs"]
    stand.invite("one")
    await wait_for(
        lambda: stand.deleted == stand.made[:1] and len(stand.made) == 2, 10, "old session deleted"
    )
    assert stand.moves == ["one"]
    await shows_new_pictures(watch)
    assert [state for state, _ in await watch.history()] == ["connecting", "playing"]
    assert (await watch.facts())["frozenMs"] - frozen < 700


@pytest.mark.parametrize(
    ("said", "asked"),
    [
        ("?party=us&size=5&other=1", "party=us&size=5"),
        ("?size=33&party=us", "party=us"),
        ("?party=a%20b&size=5", ""),
    ],
)
async def test_whom_it_watches_with_is_in_its_address_and_nothing_else_is_handed_on(
    stand: Stand, watch_page: OpenPage, said: str, asked: str
) -> None:
    await watch_page(stand.watch + said)
    await wait_for(lambda: stand.asked, 10, "it asks for a session")
    found = re.fullmatch(r"(.*?)&?page=([0-9a-f]{24})", stand.asked[0])
    assert found is not None
    assert found[1] == asked


async def test_a_move_that_is_refused_leaves_the_page_where_it_is_until_the_next(
    stand: Stand, watch_page: OpenPage
) -> None:
    watch = await watch_page(stand.watch)
    await plays(watch)
    stand.over = {"late"}
    stand.invite("late")
    await wait_for(lambda: stand.moves == ["late"], 10, "the page asks")
    await shows_new_pictures(watch)
    await shows_new_pictures(watch)
    assert (len(stand.made), stand.deleted) == (1, []), "it asks for no other seat, and keeps its own"
    assert [state for state, _ in await watch.history()] == ["connecting", "playing"]
    stand.invite("two")
    await wait_for(lambda: stand.deleted == stand.made[:1], 10, "the next one is taken")
    assert stand.moves == ["late", "two"]
    await shows_new_pictures(watch)


async def test_media_goes_on_while_the_manager_is_away(stand: Stand, watch_page: OpenPage) -> None:
    watch = await watch_page(stand.watch)
    await plays(watch)
    await shows_new_pictures(watch)
    await stand.stop()
    for _ in range(4):
        await shows_new_pictures(watch)
    assert await watch.state() == "playing"
    await stand.start()
    # The session's events are heard again: a move arrives.
    stand.move()
    await wait_for(lambda: len(stand.made) == 2, 15, "the move is heard after the restart")
    await shows_new_pictures(watch)
    assert (await watch.facts())["sessions"] == 2


async def test_an_edge_that_dies_without_a_word_is_replaced(stand: Stand, watch_page: OpenPage) -> None:
    watch = await watch_page(stand.watch)
    await plays(watch)
    await shows_new_pictures(watch)
    stand.silence()
    await was_in_state(watch, "reconnecting", 5)
    await said(watch, "Connection lost")
    await plays(watch, 8)
    await shows_new_pictures(watch)
    assert (await watch.facts())["sessions"] == 2
    assert stand.deleted == stand.made[:1]


async def test_an_edge_that_ends_is_replaced_at_once(stand: Stand, watch_page: OpenPage) -> None:
    watch = await watch_page(stand.watch)
    await plays(watch)
    await shows_new_pictures(watch)
    for viewer in list(stand.viewers.values()):
        await viewer.peer.close()  # DTLS close_notify, as a node ending cleanly sends it
    await wait_for(
        lambda: len(stand.made) == 2, 1.5, "a new session, without waiting for the picture to stall"
    )
    await shows_new_pictures(watch)


async def test_the_server_and_the_media_go_away_and_come_back(stand: Stand, watch_page: OpenPage) -> None:
    watch = await watch_page(stand.watch)
    await plays(watch)
    await stand.stop()
    stand.silence()
    await said(watch, "The server does not answer")
    assert await watch.state() == "reconnecting"
    await stand.start()
    await plays(watch, 15)
    await shows_new_pictures(watch)


@pytest.mark.parametrize("picture_after", [0.0, 1.0])
async def test_a_lost_publisher_leaves_the_last_picture_and_comes_back(
    stand: Stand, watch_page: OpenPage, picture_after: float
) -> None:
    watch = await watch_page(stand.watch)
    await plays(watch)
    await shows_new_pictures(watch)
    stand.lose_publisher()
    await said(watch, "No signal from the broadcaster")
    assert await watch.state() == "reconnecting"
    # The last picture is still there, dimmed.
    assert await watch.page.evaluate("document.querySelector('video.front').videoWidth") == 640
    stand.regain_publisher(picture_after)
    await plays(watch, 5)
    await shows_new_pictures(watch)
    assert (await watch.facts())["sessions"] == 1
    assert len(stand.offers) == 1, "nor was another one asked for"


async def test_a_broadcast_that_ends_is_waited_for_again(stand: Stand, watch_page: OpenPage) -> None:
    watch = await watch_page(stand.watch)
    await plays(watch)
    await stand.end()
    await was_in_state(watch, "ended")
    await said(watch, "The broadcast has ended")
    await was_in_state(watch, "waiting", 15)
    stand.begin()
    await plays(watch, 5)
    await shows_new_pictures(watch)


async def test_after_the_end_no_count_of_before_stands_beside_it(stand: Stand, watch_page: OpenPage) -> None:
    watch = await watch_page(stand.watch)
    await plays(watch)

    async def count_is(words: str) -> bool:
        return await watch.page.text_content("#viewers") == words

    await wait_for(lambda: count_is("1 watching"), 10, "the page is told how many watch")
    await stand.stop()  # the whole stage goes down: nobody is there to tell
    await stand.end(tell=False)
    await was_in_state(watch, "reconnecting")
    await wait_for(lambda: count_is(""), 10, "nobody knows how many watch")
    await stand.start()
    await was_in_state(watch, "ended", 20)
    assert await watch.page.text_content("#viewers") == ""


@pytest.mark.parametrize(
    ("size", "seen"),
    [((1280, 657), True), ((900, 500), False), ((390, 844), True)],
    ids=["wide", "small", "phone"],
)
async def test_the_figures_never_lie_over_what_has_to_be_said(
    stand: Stand, watch_page: OpenPage, size: tuple[int, int], seen: bool
) -> None:
    watch = await watch_page(stand.watch)
    page = watch.page
    await page.set_viewport_size({"width": size[0], "height": size[1]})
    await plays(watch)
    await page.keyboard.press("i")
    assert await page.is_visible("#figures")
    await stand.end()
    await was_in_state(watch, "ended")
    assert await page.is_visible("#figures") is seen
    boxes = [
        await page.locator(part).bounding_box() for part in ("#figures", "#notice-title", "#notice-hint")
    ]
    figures, *said_there = boxes
    for box in said_there:
        assert box is not None
        assert figures is None or (
            box["x"] + box["width"] <= figures["x"]
            or box["y"] + box["height"] <= figures["y"]
            or figures["y"] + figures["height"] <= box["y"]
        )


async def test_an_end_that_nobody_told_of_is_noticed(stand: Stand, watch_page: OpenPage) -> None:
    watch = await watch_page(stand.watch)
    await plays(watch)
    await stand.end(tell=False)
    await was_in_state(watch, "ended")
    stand.begin()
    await plays(watch, 15)


async def test_an_answer_that_breaks_off_leaves_no_session_behind(stand: Stand, watch_page: OpenPage) -> None:
    stand.cut_answers = 1
    watch = await watch_page(stand.watch)
    await plays(watch)
    assert len(stand.offers) == 2
    assert len(stand.viewers) == 1  # the place of the first one was given back
    assert len(stand.deleted) == 1


async def test_sessions_that_are_told_to_move_at_once_are_not_made_without_end(
    stand: Stand, watch_page: OpenPage
) -> None:
    watch = await watch_page(stand.watch)
    await plays(watch)
    stand.restless = True
    stand.move()
    began = len(stand.offers)
    await wait_for(lambda: len(stand.offers) >= began + 4, 15, "some more sessions")
    at = time.monotonic()
    await wait_for(lambda: len(stand.offers) >= began + 6, 30, "and two more")
    assert time.monotonic() - at > 1.5  # by then each waits for seconds
    stand.restless = False
    await shows_new_pictures(watch, 20)


async def test_a_full_house_is_said_and_asked_again(stand: Stand, watch_page: OpenPage) -> None:
    stand.refusal = (503, "no_room", {"Retry-After": "2"})
    watch = await watch_page(stand.watch)
    await said(watch, "Every place is taken")
    stand.refusal = None
    await plays(watch, 6)
    assert len(stand.asked) >= 2
    assert len(set(stand.asked)) == 1, "it says that it is the same page"


@pytest.mark.parametrize(("codec", "name"), [("H264", "H.264"), ("VP8", "VP8")])
async def test_a_browser_without_the_codec_is_told_plainly_and_asks_no_more_until_it_is_another_one(
    stand: Stand, watch_page: OpenPage, codec: str, name: str
) -> None:
    stand.codec = codec
    stand.refusal = (406, "no_common_codec", {})
    watch = await watch_page(stand.watch)
    await said(watch, f"This broadcast is {name} and this browser has none")
    assert "Open this page in" in (await watch.page.text_content("#notice-hint") or "")
    asked = stand.refused
    assert asked <= 2  # the second where the first was answered before the page knew the codec
    await watch.page.evaluate("dispatchEvent(new Event('online'))")
    stand.end_channel_feeds()  # and after the events were cut off, too
    await wait_for(lambda: stand.listening == 1, 10, "the page listens again")
    stand.begin()  # no news
    assert stand.refused == asked
    stand.refusal = None
    stand.recode("AV1")  # whatever this one is, this browser gets it
    await plays(watch)
    assert stand.refused == asked


async def test_a_browser_without_the_codec_waits_for_the_next_broadcast_as_any_other(
    stand: Stand, watch_page: OpenPage
) -> None:
    stand.refusal = (406, "no_common_codec", {})
    watch = await watch_page(stand.watch)
    await said(watch, "This broadcast is H.264 and this browser has none")
    await stand.end()
    await said(watch, "Waiting for the broadcast")
    stand.refusal = None
    stand.begin()
    await plays(watch)


async def test_a_decoder_that_arrives_later_is_noticed(stand: Stand, watch_page: OpenPage) -> None:
    """Firefox has no H.264 until its plug-in has been fetched, some time after its first start."""
    stand.refusal = (406, "no_common_codec", {})
    watch = await watch_page(stand.watch)
    await said(watch, "This broadcast is H.264 and this browser has none")
    await watch.page.evaluate(
        """() => {
            const all = RTCRtpReceiver.getCapabilities;
            RTCRtpReceiver.getCapabilities = (kind) => {
              const found = all.call(RTCRtpReceiver, kind);
              if (window.fetched) return found;
              return {...found, codecs: found.codecs.filter((codec) => codec.mimeType !== 'video/H264')};
            };
        }"""
    )
    for codec in ("H264 once more, for the page to ask without its decoder", "H264"):
        before = stand.refused
        stand.recode(codec)
        await wait_for(lambda before=before: stand.refused > before, 10, "it asked, and was refused")
    stand.refusal = None
    await watch.page.evaluate("window.fetched = true")
    await plays(watch, 12)


async def test_who_watches_and_lacks_the_codec_that_comes_is_told_at_once(
    stand: Stand, watch_page: OpenPage
) -> None:
    watch = await watch_page(stand.watch)
    await plays(watch)
    await shows_new_pictures(watch)
    stand.refusal = (406, "no_common_codec", {})
    stand.recode("VP8")
    for viewer in list(stand.viewers.values()):
        await viewer.peer.close()  # as an edge ends the sessions of another codec than the one on air
    await said(watch, "This broadcast is VP8 and this browser has none")
    assert await watch.state() == "waiting"
    assert not await watch.page.evaluate("document.querySelector('video.front')")  # no old picture stays
    asked = stand.refused
    assert asked <= 2
    stand.refusal = None
    stand.recode("H264")
    await plays(watch)


async def test_a_closed_page_gives_its_place_back(stand: Stand, watch_page: OpenPage) -> None:
    watch = await watch_page(stand.watch)
    await plays(watch)
    await watch.page.close(run_before_unload=True)
    await wait_for(lambda: stand.deleted == stand.made, 5, "the session is deleted as the page goes")


async def test_a_page_that_comes_back_from_the_browsers_cache_plays_again(
    stand: Stand, watch_page: OpenPage
) -> None:
    watch = await watch_page(stand.watch)
    await plays(watch)
    await watch.page.evaluate("dispatchEvent(new PageTransitionEvent('pagehide', {persisted: true}))")
    await wait_for(lambda: stand.deleted == stand.made, 5, "the session is deleted as the page goes")
    await watch.page.evaluate("dispatchEvent(new PageTransitionEvent('pageshow', {persisted: true}))")
    await wait_for(lambda: len(stand.made) == 2, 5, "a session of its own again")
    await shows_new_pictures(watch)


async def test_keys_and_controls(stand: Stand, watch_page: OpenPage) -> None:
    watch = await watch_page(stand.watch)
    page = watch.page
    await plays(watch)

    async def muted() -> bool:
        result: bool = await page.evaluate("document.querySelector('video.front').muted")
        return result

    pill = page.get_by_role("button", name="Turn sound on", exact=True)
    await pill.wait_for(state="visible")
    assert await muted()
    await pill.click()
    assert not await muted()
    await pill.wait_for(state="hidden")
    await page.keyboard.press("m")
    assert await muted()

    # Sound that is on stays on through a move.
    await page.keyboard.press("m")
    stand.move()
    await wait_for(lambda: len(stand.deleted) == 1, 10, "the move is done")
    await shows_new_pictures(watch)
    assert not await muted()

    await page.keyboard.press("i")
    assert await page.is_visible("#figures")
    await page.wait_for_function(
        "document.getElementById('figure-picture').textContent.startsWith('640 × 360')"
    )
    await page.keyboard.press("i")
    assert not await page.is_visible("#figures")

    await page.keyboard.press("f")
    await page.wait_for_function("document.fullscreenElement?.id === 'theatre'")
    await page.keyboard.press("f")
    await page.wait_for_function("document.fullscreenElement === null")


async def test_many_windows_of_one_browser_play_at_once(stand: Stand, watch_page: OpenPage) -> None:
    """Six connections a server is all a browser opens: a window that plays may keep one, and no more."""
    first = await watch_page(stand.watch)
    await plays(first)
    windows = [first]
    for _ in range(4):
        window = WatchPage(await first.page.context.new_page())
        await window.page.goto(stand.watch)
        await plays(window)
        windows.append(window)
    stand.move()
    await wait_for(lambda: len(stand.deleted) == len(windows), 20, "every window has moved")
    await wait_for(lambda: len(stand.viewers) == len(windows), 5, "and none is counted twice")

    async def counted() -> bool:
        return await windows[-1].page.text_content("#viewers") == "5 watching"

    await wait_for(counted, 10, "the page says how many watch")
