"""Records what real clients send, for the golden tests: `python -m tests.media.golden.record [CLIENT ...]`.

Each client publishes to, and watches, one engine in this process, whose sessions are listened to. What is
kept is what the parsers read, without any key of DTLS or SRTP: see recordings.py. Look at the diff after it.
"""

import asyncio
import contextlib
import re
import secrets
import socket
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from controlplane.wire.nodes import Role, SessionKind
from media.core import rtcp, rtp
from media.core.sdp import Agreed
from media.core.session import Session
from media.core.srtp import InboundSrtp
from media.drive.udp import bind
from media.node.addresses import own_addresses
from media.node.engine import Engine
from tests.media.golden.recordings import Recording, save
from tests.support import clients

LISTENED_S = 8.0  # a browser's first REMB comes after five seconds
# Where it was recorded is nobody's business: addresses of candidates but that of loopback become RFC 5737's.
HOME = (r"(?m)^(a=candidate:.* )(?!127\.)(?:[\d.]+|[0-9a-f:]*:[0-9a-f:]+)( \d+ typ)", r"\g<1>192.0.2.2\2")
HANDSHAKE, CLIENT_HELLO = 22, 1  # a DTLS record's type, and a handshake message's (RFC 6347)
CHECKS, PACKETS, PICTURES = 2, 3, 90  # that are kept; packets of each payload type


@dataclass
class Heard:
    """What came in one session."""

    offer: str
    agreed: Agreed
    password: str = ""
    checks: list[bytes] = field(default_factory=list)
    hellos: list[bytes] = field(default_factory=list)
    rtp: list[bytes] = field(default_factory=list)
    rtcp: list[bytes] = field(default_factory=list)

    def recording(self, client: str) -> Recording:
        video, audio = self.agreed.video, self.agreed.audio
        assert video is not None
        assert audio is not None
        types = (video.payload_type, video.rtx_payload_type, audio.payload_type)
        headers = [(rtp.parse_header(data), data) for data in self.rtp]
        kept = [
            packet
            for wanted in types
            for packet in [data for header, data in headers if header.payload_type == wanted][:PACKETS]
        ]
        picture = [
            (header.timestamp, 12 + len(header.payload(data)))
            for header, data in headers
            if header.payload_type == types[0]
        ]
        sizes = [[size for _, size in group] for _, group in groupby(picture, key=lambda pair: pair[0])]
        makes: dict[tuple[object, ...], bytes] = {}
        for compound in self.rtcp:
            makes.setdefault(tuple(map(make, rtcp.parse_compound(compound))), compound)
        return Recording(
            client=client,
            offer=re.sub(*HOME, self.offer),
            password=self.password,
            payload_types=types,
            checks=self.checks[:CHECKS],
            hellos=self.hellos,
            rtp=kept,
            rtcp=list(makes.values()),
            pictures=sizes[:PICTURES],
        )


def make(packet: rtcp.RtcpPacket) -> tuple[object, ...]:
    """Of what kind an RTCP packet is, and whether there are reception reports in it."""
    return (type(packet).__name__, bool(getattr(packet, "reports", ())))


class Listener:
    """An engine, its HTTP door, and what is heard in its sessions, by their ids."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.heard: dict[str, Heard] = {}
        self._sessions: dict[Session, Heard] = {}
        self.engine = Engine(loop, Role.ORIGIN, bind(None, dual_stack=False), own_addresses(), lambda _: None)
        routes = [
            Route("/{kind}/{name}", self._begin, methods=["POST"]),
            Route("/{kind}/{name}/{session}", self._end, methods=["DELETE"]),
        ]
        anything = ["*"]
        everyone = Middleware(
            CORSMiddleware,
            allow_origins=anything,
            allow_methods=anything,
            allow_headers=anything,
            expose_headers=["Location"],
        )
        self._server = uvicorn.Server(
            uvicorn.Config(
                Starlette(routes=routes, middleware=[everyone]), port=0, log_level="warning", lifespan="off"
            )
        )

    async def _begin(self, request: Request) -> Response:
        kind = SessionKind(request.path_params["kind"])
        name = request.path_params["name"]
        session = secrets.token_hex(8)
        offer = (await request.body()).decode()
        agreed = self.engine.create(session, kind, name, offer)
        heard = Heard(offer, agreed)
        made = self.engine._peers[session].session
        heard.password = made.credentials[0][0].password
        self._sessions[made] = self.heard[f"{kind.value} {name}"] = heard
        where = {"Location": f"{request.url.path}/{session}"}
        return PlainTextResponse(agreed.answer, 201, where, media_type="application/sdp")

    async def _end(self, request: Request) -> Response:
        self.engine.close(request.path_params["session"], "it left")
        return Response(status_code=200)

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[str]:
        """The address of its door."""
        receive, unprotect = Session.receive, InboundSrtp.unprotect
        unprotect_rtcp = InboundSrtp.unprotect_rtcp
        now_heard: Heard | None = None  # whose datagram is being read

        def listen(session: Session, datagram: bytes, *more: Any) -> None:
            nonlocal now_heard
            now_heard = self._sessions[session]
            if datagram[0] == 0:
                now_heard.checks.append(datagram)
            elif datagram[0] == HANDSHAKE and datagram[13] == CLIENT_HELLO:
                now_heard.hellos.append(datagram)
            receive(session, datagram, *more)

        def open_rtp(inbound: InboundSrtp, packet: bytes) -> bytes:
            plain = unprotect(inbound, packet)
            assert now_heard is not None
            now_heard.rtp.append(plain)
            return plain

        def open_rtcp(inbound: InboundSrtp, packet: bytes) -> bytes:
            plain = unprotect_rtcp(inbound, packet)
            assert now_heard is not None
            now_heard.rtcp.append(plain)
            return plain

        Session.receive = listen  # type: ignore[method-assign]
        InboundSrtp.unprotect = open_rtp  # type: ignore[method-assign,assignment]
        InboundSrtp.unprotect_rtcp = open_rtcp  # type: ignore[method-assign,assignment]
        door = socket.create_server(("127.0.0.1", 0))
        serving = asyncio.create_task(self._server.serve(sockets=[door]))
        try:
            yield f"http://127.0.0.1:{door.getsockname()[1]}"
        finally:
            self._server.should_exit = True
            await serving
            self.engine.shutdown("it is recorded")


async def record(client: clients.Client, codec: str, address: str, listener: Listener) -> None:
    """Have a client publish and watch it itself; its packets are written down."""
    name = f"{client.name}-{codec}".lower()
    async with (
        client.publishes(f"{address}/whip/{name}", "", codec),
        client.watches(f"{address}/whep/{name}", codec) as look,
    ):
        await asyncio.sleep(LISTENED_S)
        print(f"{name}: {await look()}")
    for kind, does in (("whip", "publishes"), ("whep", "watches")):
        heard = listener.heard[f"{kind} {name}"]
        save(f"{client.name}-{does}-{codec}".lower(), heard.recording(client.version))


async def main(wanted: list[str]) -> None:
    clients.WIDTH, clients.HEIGHT = 1280, 720  # pictures of many packets
    listener = Listener()
    async with listener.listening() as address, clients.every_client() as every:
        for client in every.values():
            if not wanted or client.name in wanted:
                for codec in client.codecs:
                    await record(client, codec, address, listener)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
