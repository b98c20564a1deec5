"""A node without media: all that its stream manager sees of it is as of a real one.

It enrols with its token, serves its control endpoint over TLS with a certificate of its own, answers each
offer with the answer a real worker would give (media.core.sdp), and reports as often as it is told to: its
figures each time, its sessions one by one every second time. An edge asks for the channel's relay when its
first viewer comes. There is no peer: a session counts as connected from the report after the first that
tells of it.

Where its manager does not answer, it reports to the next one.
"""

import asyncio
import itertools
import os
import random
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import orjson

from controlplane.wire.nodes import EnrolAnswer, EnrolRequest, Role, SessionKind, WorkerInfo
from media.core.certificate import Certificate
from media.core.codecs import video_codec
from media.core.errors import NegotiationError
from media.core.sdp import (
    LocalDescription,
    StreamDescription,
    answer_publisher,
    answer_viewer,
    make_relay_offer,
    new_credentials,
    parse_offer,
)
from media.node.trust import server_context
from media.swarm.signalling.http import Answering, Away, Server
from media.swarm.signalling.ledger import Ledger

JSON = b"Content-Type: application/json\r\n"
VERSION = "simulated"  # what tells it from a real node, for people and for our own command
MEDIA_PORT = 20_000  # nobody listens there
VIEWER_BPS = 4_500_000
REPORT_S = 3.0  # that an answer to a report is waited for


class SimulatedNode:
    def __init__(
        self, role: Role, name: str, servers: Sequence[Server], ledger: Ledger, listen: str = "127.0.0.1"
    ) -> None:
        """`servers` in the order in which they are asked; `listen` is where they reach this one."""
        self.role = role
        self.name = name
        self.over = asyncio.Event()  # told to end, or given up
        self._servers = list(servers)
        self._ledger = ledger
        self._listen = listen
        self._certificate = Certificate.generate(datetime.now(UTC))
        self._secret = b""
        self._credential = b""
        self._interval = 1.0
        self._lines: dict[str, bytes] = {}  # session -> its line of a report, connected
        self._young: dict[str, None] = {}  # that no report has told of yet
        self._watching: dict[str, set[str]] = {}  # channel -> its viewers
        self._published: dict[str, str] = {}  # channel -> its publisher's session
        self._relayed: set[str] = set()  # channels that came from an origin
        self._asked: dict[str, asyncio.Task[None]] = {}  # those that were asked for
        self._ended: list[str] = []
        self._seq = 0
        self._local = LocalDescription(
            new_credentials(os.urandom), self._certificate.fingerprint, (("127.0.0.1", MEDIA_PORT),)
        )
        self._stream = StreamDescription(1001, 1002, 1003, "simulated", "simulated")
        self._listening: asyncio.Server | None = None
        self._reporting: asyncio.Task[None] | None = None

    async def start(self, token: str, folder: Path) -> None:
        """Listen, enrol, and report from then on. `folder` is for a key, while it is read. Raises Away, and
        Refused for a token that is none."""
        loop = asyncio.get_running_loop()
        self._listening = await loop.create_server(
            lambda: Answering(self._control), self._listen, 0, ssl=server_context(self._certificate, folder)
        )
        port = self._listening.sockets[0].getsockname()[1]
        request = EnrolRequest(
            token=token,
            control_url=f"https://{_in_url(self._listen)}:{port}",
            control_fingerprint=self._certificate.fingerprint,
            addresses=["127.0.0.1"],
            workers=[
                WorkerInfo(
                    index=0, pid=os.getpid(), udp_port=MEDIA_PORT, fingerprint=self._certificate.fingerprint
                )
            ],
            version=VERSION,
            pid=os.getpid(),
            start_time=time.time(),
        )
        answer = await self._servers[0].ask(
            b"POST", b"/api/v1/nodes/enrol", request.model_dump_json().encode(), JSON
        )
        if answer.status != 200:
            raise answer.refusal(f"{self.name} cannot enrol")
        enrolled = EnrolAnswer.model_validate_json(answer.body)
        self.name, self._interval = enrolled.node_id, enrolled.report_interval_s
        self._secret = f"Bearer {enrolled.control_secret}".encode()
        self._credential = b"Authorization: Bearer %b\r\n" % enrolled.credential.encode()
        self._reporting = asyncio.create_task(self._report_on())

    async def stop(self) -> None:
        """Gone, without a word."""
        for task in (self._reporting, *self._asked.values()):
            if task is not None:
                task.cancel()
        if self._listening is not None:
            self._listening.close()

    def sessions(self) -> Iterable[str]:
        """Those that it has."""
        return self._lines.keys()

    # what its manager asks of it

    def _control(self, method: str, path: str, headers: dict[bytes, bytes], body: bytes) -> tuple[int, bytes]:
        if headers.get(b"authorization") != self._secret:
            return _problem(401, "bad_credential", "This is not the secret of this node.")
        words = path.split("/")[2:]  # behind /v1
        if method == "POST" and words == ["sessions"]:
            return self._create(orjson.loads(body))
        if method == "POST" and words == ["sessions", "end"]:
            for session in orjson.loads(body)["ids"]:
                self._end(session)
            return 204, b""
        if method == "POST" and len(words) == 3 and words[0] == "channels":
            if words[2] == "end":
                self._end_channel(words[1])
            else:
                self._subscribe(words[1])
            return 204, b""
        if method == "POST" and words == ["terminate"]:
            self.over.set()
            return 202, b""
        if method == "GET" and words == ["health"]:
            return 200, b'{"status":"ok"}'
        return _problem(404, "not_found", "A simulated node has no such thing.")

    def _create(self, asked: dict[str, str]) -> tuple[int, bytes]:
        kind, session, channel = asked["kind"], asked["id"], asked["channel"]
        try:
            offer = parse_offer(asked["offer"])
            local = replace(self._local, credentials=new_credentials(os.urandom))
            if kind == SessionKind.WHIP:
                agreed = answer_publisher(offer, local)
                self._published[channel] = session
            else:
                agreed = answer_viewer(offer, local, self._stream, video_codec(asked.get("video_codec")))
        except NegotiationError as error:
            return _problem(error.status, error.code, error.detail)
        codec = None if agreed.video is None or agreed.video.codec is None else agreed.video.codec.name
        self._lines[session] = (
            b'{"id":"%b","kind":"%b","channel":"%b","state":"connected","remote":"192.0.2.7:50000",'
            b'"transport":"udp4","bitrate_bps":%d,"loss":0.0,"rtt_ms":24.125,"jitter_ms":3.042,'
            b'"estimate_bps":9125000.0,"nacks":0,"plis":1}'
            % (session.encode(), kind.encode(), channel.encode(), VIEWER_BPS)
        )
        self._young[session] = None
        if kind == SessionKind.WHEP:
            self._watching.setdefault(channel, set()).add(session)
            self._ledger.came(self.name, session, asked.get("party"), self._viewers())
            if channel not in self._asked:
                self._subscribe(channel)
        return 201, orjson.dumps({"id": session, "answer": agreed.answer, "video_codec": codec})

    def _viewers(self) -> int:
        return sum(len(viewers) for viewers in self._watching.values())

    def _end(self, session: str) -> None:
        if self._lines.pop(session, None) is None:
            return
        self._young.pop(session, None)
        self._ended.append(session)
        for viewers in self._watching.values():
            if session in viewers:
                viewers.remove(session)
                self._ledger.left(self.name, session)
        for channel, publisher in list(self._published.items()):
            if publisher == session:
                del self._published[channel]

    def _end_channel(self, channel: str) -> None:
        gone = [*self._watching.pop(channel, ()), *filter(None, [self._published.get(channel)])]
        for session in gone:
            self._end(session)
        self._relayed.discard(channel)
        if (task := self._asked.pop(channel, None)) is not None:
            task.cancel()

    # what it asks of its manager

    def _subscribe(self, channel: str) -> None:
        before = self._asked.get(channel)
        if before is not None:
            before.cancel()
        self._asked[channel] = asyncio.create_task(self._relay(channel))

    async def _relay(self, channel: str) -> None:
        """Ask for the channel until an origin answers, as an edge does."""
        body = orjson.dumps({"channel": channel, "offer": make_relay_offer(self._local)})
        while True:
            try:
                answer = await self._ask(f"/api/v1/nodes/{self.name}/subscribe", body)
            except Away:
                answer = None
            if answer is not None and answer[0] == 200:
                self._relayed.add(channel)
                return
            await asyncio.sleep(random.uniform(0.5, 1.0))

    async def _ask(self, path: str, body: bytes) -> tuple[int, bytes]:
        """Of whoever answers; that one is asked first from then on. Raises Away."""
        for _ in self._servers:
            try:
                answer = await self._servers[0].ask(
                    b"POST", path.encode(), body, JSON + self._credential, within=REPORT_S
                )
            except Away:
                answer = None
            if answer is not None and answer.status < 500:
                return answer.status, answer.body
            self._servers.append(self._servers.pop(0))
        raise Away("no stream manager answers")

    async def _report_on(self) -> None:
        """Reports, until cancelled or told to end. Who starts together does not report together."""
        await asyncio.sleep(random.uniform(0.0, self._interval))
        loop = asyncio.get_running_loop()
        due = loop.time()
        for number in itertools.count():
            try:
                await self._report(sessions=number % 2 == 0)
            except Away:
                pass  # again in a moment, as a node does
            due = max(due + self._interval, loop.time())
            await asyncio.sleep(due - loop.time())

    async def _report(self, *, sessions: bool) -> None:
        self._seq += 1
        ended = self._ended[:]
        young = list(self._young) if sessions else []
        status, body = await self._ask(f"/api/v1/nodes/{self.name}/report", self._said(sessions, ended))
        if status in (401, 403, 404):
            self.over.set()
            return
        if status != 200:
            return
        del self._ended[: len(ended)]
        for session in young:
            self._young.pop(session, None)
        for order in orjson.loads(body)["orders"]:
            if order["kind"] == "terminate":
                self.over.set()
            elif order["kind"] == "end_session":
                self._end(order["session"])
            elif order["kind"] == "end_channel":
                self._end_channel(order["channel"])
            elif order["channel"] in self._watching:
                self._subscribe(order["channel"])

    def _said(self, sessions: bool, ended: list[str]) -> bytes:
        """A NodeReport. The lines of sessions are made when they begin: to tell of them is to join them."""
        streams = [self._said_of(channel, "published", name) for channel, name in self._published.items()]
        streams += [self._said_of(channel, "relayed", None) for channel in self._watching]
        figures = {
            "at": time.time(),
            "seq": self._seq,
            "connections": self._viewers() + len(self._published),
            "egress_bps": float(VIEWER_BPS * self._viewers()),
            "ingress_bps": float(VIEWER_BPS * len(streams)),
            "loss": 0.0,
            "cpu": 0.001 * self._viewers(),
            "rtt_ms": 24.125,
            "estimate_p10_bps": 9_125_000.0,
            "loop_delay_ms": 1.2,
            "gso": True,
            "ended": ended,
            "streams": streams,
            "workers": [],
        }
        head = orjson.dumps(figures)[:-1]
        if not sessions:
            return head + b',"sessions":null}'
        lines = [
            line.replace(b'"connected"', b'"connecting"') if name in self._young else line
            for name, line in self._lines.items()
        ]
        return b'%b,"sessions":[%b]}' % (head, b",".join(lines))

    def _said_of(self, channel: str, kind: str, session: str | None) -> dict[str, object]:
        live = kind == "published" or channel in self._relayed
        return {
            "channel": channel,
            "kind": kind,
            "state": "live" if live else "waiting",
            "session": session,
            "bitrate_bps": float(VIEWER_BPS),
            "fps": 30.0,
            "video_codec": "H264",
            "width": 1280,
            "height": 720,
            "viewers": len(self._watching.get(channel, ())),
            "loss": 0.0,
            "keyframe_age_s": 0.5,
        }


def _in_url(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def _problem(status: int, code: str, detail: str) -> tuple[int, bytes]:
    title = code.replace("_", " ").capitalize()
    return status, orjson.dumps({"code": code, "title": title, "detail": detail, "status": status})
