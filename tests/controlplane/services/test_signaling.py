"""WHIP and WHEP over real HTTP: RFC 9725's ways, and what a wrong request gets."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from pydantic import ValidationError

from controlplane.ports.provisioner import Instance, LaunchSpec
from controlplane.services.tokens import sha256
from controlplane.wire.nodes import Role
from tests.controlplane.fake_node import OFFER
from tests.controlplane.stage import AS_OPERATOR, SDP, Show, running, settings
from tests.support.wait import wait_for

FRAGMENT = {"Content-Type": "application/trickle-ice-sdpfrag"}


def words(header: str) -> set[str]:
    """A header that is a list."""
    return {word.strip() for word in header.split(",")}


async def test_a_publisher_gets_a_session_and_its_good_bye_ends_the_stream(show: Show) -> None:
    response = await show.whip()
    assert response.status_code == 201
    assert response.headers["Content-Type"] == "application/sdp"
    location = response.headers["Location"]
    assert location.startswith("/whip/main/")
    assert len(location.rpartition("/")[2]) >= 32  # unguessable
    assert response.headers["ETag"].startswith('"')
    assert response.headers["Access-Control-Allow-Origin"] == "*"
    assert words(response.headers["Access-Control-Expose-Headers"]) >= {"Location", "Link", "ETag"}
    assert response.text.startswith("v=0")
    await show.until_stream("main", "live")

    mine = {"Authorization": f"Bearer {show.tokens['main']}"}
    assert (await show.http.delete(location)).status_code == 401
    assert (await show.http.delete(location, headers=mine)).status_code == 200
    await show.until_stream("main", None)
    await wait_for(lambda: not show.nodes["origin-1"].sessions, 5, "the node let the session go")


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ("", "its publisher ended it"),
        ("?why=source_over", "its file was at its end"),
        ("?why=anything%20else", "its publisher ended it"),
    ],
)
async def test_a_good_bye_may_say_why(show: Show, query: str, why: str) -> None:
    session = await show.on_air()
    mine = {"Authorization": f"Bearer {show.tokens['main']}"}
    assert (await show.http.delete(f"/whip/main/{session}{query}", headers=mine)).status_code == 200
    ended = next(entry for entry in await show.get("/journal") if entry["kind"] == "stream.ended")
    assert ended["message"] == f"main is ended: {why}."
    assert ended["data"]["reason"] == why
    assert ended["actor"] == "publisher"


@pytest.mark.parametrize(
    ("query", "party"),
    [("", None), ("?party=the_Smiths-7", "the_Smiths-7"), (f"?party={'x' * 64}", "x" * 64)],
)
async def test_whom_a_viewer_watches_with_is_said_to_its_node(
    show: Show, query: str, party: str | None
) -> None:
    await show.on_air()
    response = await show.whep(query=query)
    assert response.status_code == 201
    session = response.headers["Location"].rpartition("/")[2]
    assert show.nodes["edge-1"].sessions[session].party == party


@pytest.mark.parametrize("party", ["", "x" * 65, "a%20b", "%3Cb%3E", "caf%C3%A9", "line%0A", "%00", "a/b"])
async def test_a_party_that_is_no_word_is_refused(show: Show, party: str) -> None:
    await show.on_air()
    response = await show.whep(query=f"?party={party}")
    assert response.status_code == 422
    assert "party" in response.json()["detail"]
    assert show.nodes["edge-1"].sessions == {}


@pytest.mark.parametrize(
    ("query", "what"),
    [("size=0", "size"), ("size=33", "size"), ("size=many", "size"), (f"region={'x' * 65}", "region")],
)
async def test_a_size_or_a_region_that_is_none_is_refused(show: Show, query: str, what: str) -> None:
    await show.on_air()
    response = await show.whep(query=f"?party=us&{query}")
    assert response.status_code == 422
    assert what in response.json()["detail"]


async def test_the_last_seats_are_kept_for_a_party_and_others_are_told_to_wait(tmp_path: Path) -> None:
    async with running(tmp_path, settings(fleet={"edge_capacity": 3})) as show:
        await show.until({"origin-1": "in_service", "edge-1": "in_service"})
        await show.on_air()
        first = await show.whep(query="?party=us&size=3")
        assert first.status_code == 201
        edge = next(node for node in await show.get("/nodes") if node["id"] == "edge-1")
        assert edge["reserved"] == 3
        refused = await show.whep()
        assert (refused.status_code, refused.json()["code"]) == (503, "no_edge_with_room")
        assert int(refused.headers["Retry-After"]) > 0
        assert show.stage.manager.scaling.figures(show.board.groups["edge", "local"])[0].seats == 3
        waiting = show.stage.manager.signaling._waiting
        assert waiting.people(Role.EDGE) == 1
        for _ in range(2):
            assert (await show.whep(query="?party=us&size=3")).status_code == 201
        assert (await show.whep(query="?party=us&size=3")).status_code == 503
        assert waiting.people(Role.EDGE) == 1
        assert (await show.http.delete(first.headers["Location"])).status_code == 200
        assert (await show.whep()).status_code == 201


async def test_a_party_that_does_not_say_its_size_is_as_large_as_the_settings_say(tmp_path: Path) -> None:
    async with running(tmp_path, settings(viewers={"party_size": 5})) as show:
        await show.until({"origin-1": "in_service", "edge-1": "in_service"})
        await show.on_air()
        assert (await show.whep(query="?party=us")).status_code == 201
        assert (await show.whep(query="?region=elsewhere")).status_code == 201
        assert show.board.reserved_on("edge-1") == 6


async def test_a_viewer_gets_a_session_with_links_and_leaves(show: Show) -> None:
    await show.on_air()
    response = await show.whep()
    assert response.status_code == 201
    location = response.headers["Location"]
    assert words(response.headers["Access-Control-Expose-Headers"]) >= {"Location", "Link", "ETag"}
    assert f"<{location}/events>" in response.headers["Link"]
    assert len(show.nodes["edge-1"].sessions) == 1

    async def counted() -> bool:
        streams, nodes = await show.get("/streams"), await show.get("/nodes")
        edge = next(node for node in nodes if node["id"] == "edge-1")
        return bool(streams[0]["viewers"] == 1 and edge["connections"] == 1 and edge["reserved"] == 1)

    await wait_for(counted, 5, "the viewer is counted")
    assert (await show.http.delete(location)).status_code == 200
    await wait_for(lambda: not show.nodes["edge-1"].sessions, 5, "the node let the viewer go")
    assert show.board.seats_on("edge-1") == 0


async def test_nothing_on_air_is_a_409_that_says_when_to_come_back(show: Show) -> None:
    response = await show.whep()
    assert response.status_code == 409
    assert response.headers["Content-Type"] == "application/problem+json"
    assert response.headers["Retry-After"]
    assert response.headers["Access-Control-Allow-Origin"] == "*"
    assert response.json()["code"] == "nothing_on_air"


async def test_a_channel_on_air_is_not_taken_by_another_token(show: Show) -> None:
    await show.on_air()
    response = await show.whip(token=await show.token("main"))
    assert response.status_code == 409
    assert response.json()["code"] == "channel_on_air"
    assert "showcaller streams stop main" in response.json()["detail"]


async def test_the_same_publisher_takes_its_channel_over(show: Show) -> None:
    first = await show.on_air()
    response = await show.whip(token=show.tokens["main"])
    assert response.status_code == 201
    second = response.headers["Location"].rpartition("/")[2]
    await wait_for(lambda: list(show.nodes["origin-1"].sessions) == [second], 5, "the old one is dropped")
    assert first != second
    await show.until_stream("main", "live")
    assert show.board.seats_on("origin-1") == 1
    assert (await show.publisher_report(second))["action"] == "continue"


async def test_a_bad_takeover_leaves_the_broadcast_on_air(show: Show) -> None:
    first = await show.on_air()
    response = await show.whip(token=show.tokens["main"], offer="this is no SDP")
    assert response.status_code == 400
    assert list(show.nodes["origin-1"].sessions) == [first]
    assert show.board.streams["main"].session == first
    assert show.board.seats_on("origin-1") == 1


@pytest.mark.parametrize("kind", ["whip", "whep"])
@pytest.mark.parametrize(
    ("offer", "status", "code"),
    [
        ("garbage", 400, "bad_sdp"),
        (OFFER + "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:x\r\n", 406, "sdes_refused"),
        ("", 400, "bad_sdp"),
        ("v=0\r\n" + "a=x\r\n" * 20_000, 413, "too_large"),
        ("v=0\r\n" + "a=x\r\n" * 400_000, 413, "too_large"),
    ],
    ids=["garbage", "sdes", "empty", "over 64 KiB", "over 1 MiB"],
)
async def test_a_bad_offer_gets_a_reason_and_leaves_nothing_behind(
    show: Show, kind: str, offer: str, status: int, code: str
) -> None:
    if kind == "whep":
        await show.on_air()
        response = await show.whep(offer=offer)
    else:
        response = await show.whip(offer=offer)
    assert (response.status_code, response.json()["code"]) == (status, code)
    node = "edge-1" if kind == "whep" else "origin-1"
    assert show.board.seats_on(node) == 0
    assert ("main" in show.board.streams) == (kind == "whep")


async def test_a_huge_offer_without_a_length_is_refused_too(show: Show) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(200):
            yield b"a=x\r\n" * 200

    await show.on_air()
    response = await show.http.post("/whep/main", headers=SDP, content=endless())
    assert response.status_code == 413


async def test_other_content_types_and_methods_are_refused(show: Show) -> None:
    await show.on_air()
    response = await show.http.post("/whep/main", headers={"Content-Type": "text/plain"}, content=OFFER)
    assert response.status_code == 415
    known = {
        "/whip/main": "GET, HEAD, OPTIONS, POST",
        "/whep/main": "GET, HEAD, OPTIONS, POST",
        "/whep/main/0123456789": "DELETE, GET, HEAD, OPTIONS, PATCH",
        "/whep/main/0123456789/events": "GET, OPTIONS, POST",
        "/whep/main/0123456789/events/0123": "DELETE, GET, OPTIONS",
    }
    for path, methods in known.items():
        response = await show.http.put(path)
        assert (response.status_code, response.headers["Allow"]) == (405, methods)
        assert response.headers["Access-Control-Allow-Origin"] == "*"
    assert (await show.http.post("/whep/UPPER", headers=SDP, content=OFFER)).status_code == 422


async def test_addresses_can_be_looked_at_and_tell_a_player_what_they_are(show: Show) -> None:
    """RFC 9725, 4.1: GET succeeds without content. draft-ietf-wish-whep, 4.2: HEAD tells the type."""
    published = await show.whip()
    await show.until_stream("main", "live")
    watched = await show.whep()
    for method in ("GET", "HEAD"):
        for path in ("/whip/main", "/whep/main", "/whep/main/"):
            response = await show.http.request(method, path)
            assert (response.status_code, response.content) == (200, b"")
            assert response.headers["Content-Type"] == "application/sdp"
            assert response.headers["Content-Length"] == "0"
        mine = {"Authorization": f"Bearer {show.tokens['main']}"}
        for made in (published, watched):
            response = await show.http.request(method, made.headers["Location"], headers=mine)
            assert (response.status_code, response.content) == (204, b"")
        assert (await show.http.request(method, published.headers["Location"])).status_code == 401
        for path in ("/whip/main/0123456789", "/whep/main/0123456789"):
            assert (await show.http.request(method, path, headers=mine)).status_code == 404


async def test_preflight_lets_a_page_of_another_origin_in(show: Show) -> None:
    methods = {
        "/whip/main": "GET, HEAD, OPTIONS, POST",
        "/whep/main": "GET, HEAD, OPTIONS, POST",
        "/whip/main/0123456789": "DELETE, GET, HEAD, OPTIONS, PATCH",
        "/whep/main/0123456789": "DELETE, GET, HEAD, OPTIONS, PATCH",
        "/whep/main/0123456789/events": "GET, OPTIONS, POST",
        "/whep/main/0123456789/events/0123": "DELETE, GET, OPTIONS",
        "/whep/main/0123456789/latency": "OPTIONS, POST",
    }
    for path, known in methods.items():
        response = await show.http.options(path, headers={"Origin": "https://elsewhere.example"})
        assert (response.status_code, response.content) == (200, b"")
        assert response.headers["Access-Control-Allow-Origin"] == "*"
        assert response.headers["Access-Control-Allow-Methods"] == known
        for header in ("Authorization", "Content-Type", "If-Match"):
            assert header in response.headers["Access-Control-Allow-Headers"]
        exposed = response.headers["Access-Control-Expose-Headers"]
        for header in ("Location", "ETag", "Link", "Accept-Patch", "Retry-After"):
            assert header in exposed
        if path.count("/") <= 3:
            assert response.headers["Accept-Post"] == "application/sdp"
        if path.count("/") == 3:
            assert response.headers["Accept-Patch"] == "application/trickle-ice-sdpfrag"


async def test_trickle_needs_the_entity_tag(show: Show) -> None:
    await show.on_air()
    joined = await show.whep()
    path, tag = joined.headers["Location"], joined.headers["ETag"]

    async def patch(body: str, **headers: str) -> httpx.Response:
        return await show.http.patch(path, content=body, headers=FRAGMENT | headers)

    candidate = "a=ice-ufrag:abcd\r\n"
    assert (await patch(candidate)).status_code == 428
    assert (await patch(candidate, **{"If-Match": '"another"'})).status_code == 412
    taken = await patch(candidate, **{"If-Match": tag})
    assert (taken.status_code, taken.content) == (204, b"")
    assert "ETag" not in taken.headers  # RFC 9725, 4.3.2
    assert (await patch("nonsense", **{"If-Match": tag})).status_code == 400
    assert (await patch("", **{"If-Match": tag})).status_code == 400
    assert (await patch("a=x\r\n" * 10_000, **{"If-Match": tag})).status_code == 413
    wrong = await show.http.patch(path, content=candidate, headers={"If-Match": tag, **SDP})
    assert wrong.status_code == 415
    assert (await show.http.delete(path, headers={"If-Match": '"ignored"'})).status_code == 200
    assert (await patch(candidate, **{"If-Match": tag})).status_code == 404


@pytest.mark.parametrize("kind", ["whip", "whep"])
async def test_an_ice_restart_has_an_answer_and_makes_a_new_entity_tag(show: Show, kind: str) -> None:
    published = await show.whip()
    await show.until_stream("main", "live")
    made = published if kind == "whip" else await show.whep()
    path, tag = made.headers["Location"], made.headers["ETag"]
    token = {"Authorization": f"Bearer {show.tokens['main']}"} if kind == "whip" else {}

    async def patch(ufrag: str, if_match: str) -> httpx.Response:
        headers = FRAGMENT | token | {"If-Match": if_match}
        return await show.http.patch(path, content=f"a=ice-ufrag:{ufrag}\r\n", headers=headers)

    restarted = await patch("efgh", "*")
    assert restarted.status_code == 200
    assert restarted.headers["Content-Type"].partition(";")[0] == FRAGMENT["Content-Type"]
    assert restarted.headers["Access-Control-Allow-Origin"] == "*"
    assert restarted.text.startswith("a=ice-lite")
    again = restarted.headers["ETag"]
    assert again != tag
    assert (await patch("efgh", tag)).status_code == 412
    assert (await patch("efgh", again)).status_code == 204
    third = await patch("ijkl", "*")
    assert third.status_code == 200
    assert len({tag, again, third.headers["ETag"]}) == 3
    node = show.nodes["origin-1" if kind == "whip" else "edge-1"]
    assert node.restarts[path.rpartition("/")[2]] == ["efgh", "ijkl"]
    assert (await show.http.delete(path, headers=token)).status_code == 200


async def test_whoever_may_not_publish_may_not_restart_a_publishers_ice(show: Show) -> None:
    published = await show.whip()
    path = published.headers["Location"]
    other = {"Authorization": f"Bearer {await show.token('other')}"}
    for token, status in (({}, 401), (other, 403)):
        headers = FRAGMENT | token | {"If-Match": "*"}
        response = await show.http.patch(path, content="a=ice-ufrag:efgh\r\n", headers=headers)
        assert response.status_code == status
    assert show.nodes["origin-1"].restarts == {}


async def test_ice_servers_are_named_where_there_are_some(tmp_path: Path) -> None:
    turn = {"url": "turn:turn.example.net?transport=udp", "username": 'a "b"', "credential": "c\\d"}
    config = settings(ice={"servers": [{"url": "stun:stun.example.net"}, turn]})
    async with running(tmp_path, config) as show:
        await show.until({"origin-1": "in_service", "edge-1": "in_service"})
        published = await show.whip()
        await show.until_stream("main", "live")
        watched = await show.whep()
        for made in (published, watched):
            assert made.headers["Link"].endswith(
                '<stun:stun.example.net>; rel="ice-server", <turn:turn.example.net?transport=udp>; '
                'rel="ice-server"; username="a \\"b\\""; credential="c\\\\d"; credential-type="password"'
            )
        assert published.headers["Link"].startswith("<stun:")  # and nothing of viewers
        # Not before there is a session: RFC 9725, 4.6, of OPTIONS requests that are preflights.
        assert "Link" not in (await show.http.options("/whip/main")).headers


@pytest.mark.parametrize("url", ["http://x", "stun:", 'stun:a>; rel="x', "turn:a b", "stun:a\r\nX: y"])
def test_an_ice_server_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ValidationError):
        settings(ice={"servers": [{"url": url}]})


async def test_a_session_of_another_channel_or_kind_is_not_found(show: Show) -> None:
    session = await show.on_air()
    joined = (await show.whep()).headers["Location"].rpartition("/")[2]
    for path in (f"/whep/other/{joined}", f"/whep/main/{session}", "/whep/main/00000000000000"):
        assert (await show.http.delete(path)).status_code == 404
        assert (await show.http.get(f"{path}/events")).status_code == 404


async def test_concurrent_joins_never_overfill_an_edge(tmp_path: Path) -> None:
    config = settings(fleet={"edge_capacity": 5, "edges": 2})
    async with running(tmp_path, config) as show:
        await show.until({"origin-1": "in_service", "edge-1": "in_service", "edge-2": "in_service"})
        await show.on_air()
        answers = await asyncio.gather(*(show.whep() for _ in range(30)))
        statuses = sorted(answer.status_code for answer in answers)
        assert statuses == [201] * 10 + [503] * 20
        full = next(answer for answer in answers if answer.status_code == 503)
        assert full.headers["Retry-After"]
        assert full.json()["code"] == "no_edge_with_room"
        assert len(show.nodes["edge-1"].sessions) == len(show.nodes["edge-2"].sessions) == 5


async def test_a_node_that_refuses_is_passed_over_and_its_seat_given_back(tmp_path: Path) -> None:
    async with running(tmp_path, settings(fleet={"edges": 2})) as show:
        await show.until({"edge-1": "in_service", "edge-2": "in_service", "origin-1": "in_service"})
        await show.on_air()
        show.nodes["edge-1"].failure = (503, "node_full")
        for _ in range(3):
            assert (await show.whep()).status_code == 201
        assert show.board.seats_on("edge-1") == 0
        assert show.board.seats_on("edge-2") == 3


async def test_a_publisher_is_placed_on_another_origin_when_one_is_in_trouble(tmp_path: Path) -> None:
    async with running(tmp_path, settings(fleet={"origins": 2})) as show:
        await show.until({"origin-1": "in_service", "origin-2": "in_service"})
        show.nodes["origin-1"].failure = (503, "no_worker")
        assert (await show.whip()).status_code == 201
        assert show.board.streams["main"].origin == "origin-2"
        assert show.board.seats_on("origin-1") == 0


async def test_a_node_that_does_not_know_the_manager_is_not_the_viewers_fault(show: Show) -> None:
    await show.on_air()
    show.nodes["edge-1"].failure = (401, "bad_credential")
    response = await show.whep()
    assert (response.status_code, response.json()["code"]) == (503, "bad_credential")  # in the node's words
    assert response.headers["Retry-After"]
    assert show.board.seats_on("edge-1") == 0


@pytest.mark.parametrize("takeover", [False, True], ids=["a first session", "a takeover"])
async def test_a_broadcast_stopped_while_its_origin_answers_stays_stopped(show: Show, takeover: bool) -> None:
    token = await show.token()
    if takeover:
        await show.on_air()
        token = show.tokens["main"]
    origin = show.nodes["origin-1"]
    origin.answer_delay_s = 0.5
    seats = show.board.seats_on("origin-1")
    coming = asyncio.create_task(show.whip(token=token))
    await wait_for(lambda: show.board.seats_on("origin-1") == seats + 1, 5, "the origin is asked")
    stopped = await show.http.delete("/api/v1/streams/main", headers=AS_OPERATOR)
    assert stopped.status_code == 200
    response = await coming
    assert (response.status_code, response.json()["code"]) == (503, "session_ended")
    assert response.headers["Retry-After"]
    origin.answer_delay_s = 0.0
    assert "main" not in show.board.streams
    assert show.board.seats_on("origin-1") == 0
    await wait_for(lambda: not origin.sessions, 5, "the node lets the late session go")
    assert (await show.whip(token=token)).json()["code"] == "token_revoked"


async def test_a_dead_edge_is_noticed_by_the_join_it_refuses(
    show: Show, monkeypatch: pytest.MonkeyPatch
) -> None:
    launch, may_launch = show.provisioner.launch, asyncio.Event()

    async def held(spec: LaunchSpec) -> Instance:
        await may_launch.wait()
        return await launch(spec)

    monkeypatch.setattr(show.provisioner, "launch", held)  # or another edge is there before it is given up
    await show.on_air()
    await show.vanish("edge-1")  # its control port is closed; the provisioner has not said a word
    response = await show.whep()
    assert response.status_code == 503
    assert response.headers["Retry-After"]
    may_launch.set()
    await show.until({"edge-2": "in_service"})
    assert (await show.whep()).status_code == 201


async def test_a_relay_is_made_at_the_origin_that_has_the_channel(show: Show) -> None:
    edge = show.nodes["edge-1"]
    assert edge.enrolled is not None
    path = "/api/v1/nodes/edge-1/subscribe"
    body = {"channel": "main", "offer": OFFER}
    as_edge = {"Authorization": f"Bearer {edge.enrolled.credential}"}
    response = await show.http.post(path, json=body, headers=as_edge)
    assert (response.status_code, response.json()["code"]) == (409, "nothing_on_air")

    await show.on_air()
    first = (await show.http.post(path, json=body, headers=as_edge)).json()
    assert first["origin"] == "origin-1"
    assert first["session"] in show.nodes["origin-1"].sessions
    assert show.board.seats_on("origin-1") == 1  # relays take no seat
    second = (await show.http.post(path, json=body, headers=as_edge)).json()
    await wait_for(
        lambda: first["session"] not in show.nodes["origin-1"].sessions, 5, "the old relay is dropped"
    )
    assert second["session"] in show.nodes["origin-1"].sessions


async def test_the_credential_of_a_node_that_has_gone_gets_no_stream(show: Show) -> None:
    await show.on_air()
    gone = show.nodes["edge-1"]
    assert gone.enrolled is not None
    await show.crash("edge-1")
    await show.until_gone("edge-1")
    response = await show.http.post(
        "/api/v1/nodes/edge-1/subscribe",
        headers={"Authorization": f"Bearer {gone.enrolled.credential}"},
        json={"channel": "main", "offer": OFFER},
    )
    assert response.status_code == 403
    assert len(show.nodes["origin-1"].sessions) == 1  # the publisher's


async def test_only_hashes_of_secrets_are_in_the_database(show: Show, tmp_path: Path) -> None:
    await show.on_air()
    origin = show.nodes["origin-1"]
    assert origin.enrolled is not None
    secrets = [origin.token, origin.enrolled.credential, origin.enrolled.control_secret]
    secrets += [show.tokens["main"], AS_OPERATOR["Authorization"].partition(" ")[2]]
    content = await asyncio.to_thread(_all_of, tmp_path)
    assert sha256(origin.token).encode() in content
    for secret in secrets:
        assert secret.encode() not in content


def _all_of(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.glob("showcaller.db*"))


async def test_a_publisher_that_comes_back_to_a_full_origin_has_its_own_seat(tmp_path: Path) -> None:
    async with running(tmp_path, settings(fleet={"origin_capacity": 1})) as show:
        await show.until({"origin-1": "in_service", "edge-1": "in_service"})
        first = await show.on_air()
        path = (await show.whep()).headers["Location"]
        other = await show.whip("other")
        assert (other.status_code, other.json()["code"]) == (503, "no_origin_with_room")

        response = await show.whip(token=show.tokens["main"])  # the origin still has its session before
        assert response.status_code == 201
        second = response.headers["Location"].rpartition("/")[2]
        assert second != first
        await wait_for(lambda: list(show.nodes["origin-1"].sessions) == [second], 5, "the old one is dropped")
        await show.until_stream("main", "live")
        assert show.board.seats_on("origin-1") == 1
        assert path.rpartition("/")[2] in show.nodes["edge-1"].sessions

        bad = await show.whip(token=show.tokens["main"], offer="this is no SDP")
        assert bad.status_code == 400
        assert show.board.streams["main"].state == "reconnecting"  # waited for, and its seat is free
        assert (await show.whip(token=show.tokens["main"])).status_code == 201
        await show.until_stream("main", "live")
        assert show.board.seats_on("origin-1") == 1


async def test_a_good_bye_ends_a_stream_whose_publisher_is_waited_for(show: Show) -> None:
    session = await show.on_air()
    show.nodes["origin-1"].end_session(session)
    await show.until_stream("main", "reconnecting")
    mine = {"Authorization": f"Bearer {show.tokens['main']}"}
    assert (await show.http.delete(f"/whip/main/{session}", headers=mine)).status_code == 200
    assert "main" not in show.board.streams
    assert (await show.whip(token=await show.token())).status_code == 201  # the channel is free


async def test_a_slash_at_the_end_is_served_too(show: Show) -> None:
    """A browser does not follow a redirect without CORS headers."""
    headers = SDP | {"Authorization": f"Bearer {await show.token()}"}
    published = await show.http.post("/whip/main/", headers=headers, content=OFFER)
    assert published.status_code == 201
    assert published.headers["Location"].startswith("/whip/main/")
    assert "//" not in published.headers["Location"]
    watched = await show.http.post("/whep/main/", headers=SDP, content=OFFER)
    assert watched.status_code == 201
    assert watched.headers["Access-Control-Allow-Origin"] == "*"
    for path in ("/whip/main/", "/whep/main/"):
        assert (await show.http.options(path)).status_code == 200
