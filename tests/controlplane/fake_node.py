"""A node at the network seam: everything a manager can see of one is real HTTP, nothing behind it is media.

It enrols with its token, reports, serves the control endpoint with the secret it was given, and answers
offers with a canned SDP (and bad ones with a problem, as a node does). It runs on threads, so that it can
stand beside the manager in one test process, or as a process of its own:

    python -m tests.controlplane.fake_node --role edge --manager URL --name edge-1 ...
"""

import argparse
import functools
import http.client
import json
import os
import re
import signal
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal
from urllib.parse import urlsplit

from controlplane.wire import processes
from controlplane.wire.nodes import (
    EnrolAnswer,
    EnrolRequest,
    NodeReport,
    ReportAnswer,
    Role,
    SessionKind,
    SessionRequest,
    SessionRow,
    SessionsEnd,
    StreamReport,
    WorkerInfo,
    ice_etag,
)
from tests.support.certificates import Pair, node_pair

ANSWER = (
    "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=ice-lite\r\n"
    "m=audio 20000 UDP/TLS/RTP/SAVPF 111\r\nm=video 20000 UDP/TLS/RTP/SAVPF 96\r\n"
)
OFFER = "v=0\r\no=- 2 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\n"


class Refused(Exception):
    """The manager answered with an error status."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(f"{status}: {body.decode(errors='replace')}")
        self.status = status


@functools.cache
def certificate() -> Pair:
    """One for all the fake nodes of a process: making it takes a while."""
    return node_pair()


class FakeNode:
    """One node. `interval_s` is how often it reports."""

    def __init__(self, manager_url: str, token: str, role: Role, name: str, interval_s: float = 0.1) -> None:
        self.manager = urlsplit(manager_url)
        self._others: list[str] = []  # managers, as it was told last
        self.token = token
        self.role = role
        self.name = name
        self.interval_s = interval_s
        self.enrolled: EnrolAnswer | None = None
        self.sessions: dict[str, SessionRequest] = {}
        self.calls: list[str] = []  # "POST /v1/sessions" in order
        self.orders: list[str] = []  # "resubscribe main", ...
        self.connects = True  # whether its viewers ever connect
        self.silent = False  # alive, and says nothing
        self.media: Literal["waiting", "live", "stalled"] = "live"  # of the streams it has
        self.relayed: Literal["waiting", "live", "stalled"] = "live"  # of those it has from an origin
        self.tells_sessions = True  # when it is asked; False: as a node of an earlier version
        self.relays: list[str] = []  # sessions of its own that no manager has made
        self.says_codec = True  # False: as a node did before there was a choice
        self.codec: str | None = "H264"  # that publishers are answered with
        self.failure: tuple[int, str] | None = None  # status and code for the next offers
        self.restarts: dict[str, list[str]] = {}  # session -> the peer's ufrags, of each ICE restart
        self.answer_delay_s = 0.0
        self.metrics_sha256: str | None = None  # as the manager said it last
        self.terminated = threading.Event()
        self._codecs: dict[str, str | None] = {}
        self._ended: list[str] = []
        self._stop = threading.Event()
        self._seq = 0
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.certificate = certificate()
        self._server.socket = self.certificate.server_context().wrap_socket(
            self._server.socket, server_side=True, do_handshake_on_connect=False
        )
        self._threads = [
            threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True),
            threading.Thread(target=self._report_forever, daemon=True),
        ]

    @property
    def control_url(self) -> str:
        return f"https://127.0.0.1:{self._server.server_address[1]}"

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Gone: the control port refuses, nothing is reported any more."""
        self._stop.set()
        self._server.shutdown()
        self._server.server_close()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(5)

    def end_session(self, session: str) -> None:
        """A peer vanishes."""
        if self.sessions.pop(session, None) is not None:
            self._ended.append(session)

    # toward the manager

    def call(self, method: str, path: str, body: str, credential: str | None = None) -> bytes:
        connection = http.client.HTTPConnection(self.manager.hostname or "", self.manager.port, timeout=10)
        headers = {"Content-Type": "application/json"}
        if credential is not None:
            headers["Authorization"] = f"Bearer {credential}"
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            content = response.read()
        finally:
            connection.close()
        if response.status >= 400:
            raise Refused(response.status, content)
        return content

    def enrol(self) -> EnrolAnswer:
        request = EnrolRequest(
            token=self.token,
            control_url=self.control_url,
            control_fingerprint=self.certificate.fingerprint,
            addresses=["127.0.0.1"],
            workers=[WorkerInfo(index=0, pid=os.getpid(), udp_port=20000, fingerprint="AA:BB")],
            version="0.1.0",
            pid=os.getpid(),
            start_time=processes.start_time(os.getpid()) or 0.0,
        )
        body = self.call("POST", "/api/v1/nodes/enrol", request.model_dump_json())
        self.enrolled = EnrolAnswer.model_validate_json(body)
        return self.enrolled

    def report(self) -> ReportAnswer:
        assert self.enrolled is not None
        ended, sessions = list(self._ended), dict(self.sessions)
        self._seq += 1
        report = NodeReport(
            at=time.time(),
            seq=self._seq,
            connections=sum(1 for s in sessions.values() if s.kind is not SessionKind.RELAY_OUT),
            egress_bps=1000.0 * len(sessions),
            ingress_bps=0.0,
            sessions=self._rows(sessions)
            if self._seq % 2
            else None,  # as a node does: its sessions one by one in every second report
            ended=ended,
            streams=list(self._streams(sessions)),
        )
        path = f"/api/v1/nodes/{self.enrolled.node_id}/report"
        body = self.call("POST", path, report.model_dump_json(), self.enrolled.credential)
        del self._ended[: len(ended)]
        answer = ReportAnswer.model_validate_json(body)
        self._others = [url for url in answer.managers if url != self.manager.geturl()]
        self.metrics_sha256 = answer.metrics_sha256
        return answer

    def _rows(self, sessions: dict[str, SessionRequest]) -> list[SessionRow]:
        rows = [
            SessionRow(
                id=s.id,
                kind=s.kind,
                channel=s.channel,
                state="connected" if self.connects or s.kind is not SessionKind.WHEP else "new",
            )
            for s in sessions.values()
        ]
        return rows + [
            SessionRow(id=name, kind=SessionKind.RELAY_IN, channel="main", state="connected")
            for name in self.relays
        ]

    def _streams(self, sessions: dict[str, SessionRequest]) -> list[StreamReport]:
        found: dict[str, StreamReport] = {}
        for session in sessions.values():
            if session.kind is SessionKind.WHIP:
                found[session.channel] = StreamReport(
                    channel=session.channel,
                    kind="published",
                    state=self.media,
                    session=session.id,
                    bitrate_bps=4.5e6,
                    fps=30.0,
                    video_codec=self._codecs.get(session.id),
                    width=1280,
                    height=720,
                )
            elif session.kind is SessionKind.WHEP:
                viewers = found[session.channel].viewers if session.channel in found else 0
                found[session.channel] = StreamReport(
                    channel=session.channel, kind="relayed", state=self.relayed, viewers=viewers + 1
                )
        return list(found.values())

    def _report_forever(self) -> None:
        while not self._stop.is_set():
            try:
                if self.enrolled is None:
                    self.enrol()
                if not self.silent:
                    for order in self.report().orders:
                        self._obey(order.kind, order.channel, order.session)
            except Refused as error:
                if self.enrolled is None and error.status == 403:
                    return  # a real node ends here
            except OSError:  # the manager is away
                if self._others:
                    self._others.append(self.manager.geturl())
                    self.manager = urlsplit(self._others.pop(0))
            self._stop.wait(self.interval_s)

    def _obey(self, kind: str, channel: str | None, session: str | None) -> None:
        self.orders.append(f"{kind} {channel or session or ''}".strip())
        if kind == "end_session" and session is not None:
            self.end_session(session)
        elif kind == "end_channel":
            self._end_channel(channel)
        elif kind == "terminate":
            self.terminated.set()

    def _end_channel(self, channel: str | None) -> None:
        for session in [s.id for s in self.sessions.values() if s.channel == channel]:
            self.end_session(session)

    # the control endpoint

    def control(
        self, method: str, path: str, body: bytes, secret: str, if_match: str | None
    ) -> tuple[int, Any]:
        if self.enrolled is None or secret != f"Bearer {self.enrolled.control_secret}":
            return 401, _problem(401, "bad_credential")
        parts = urlsplit(path)
        self.calls.append(f"{method} {parts.path}")
        if method == "GET" and parts.path == "/v1/health":
            return 200, {"status": "ok"}
        if method == "GET" and parts.path == "/metrics":
            return 200, f'showcaller_node_info{{node="{self.name}"}} 1\n'.encode()
        if method == "GET" and parts.path == "/v1/sessions" and self.tells_sessions:
            return 200, {"age_s": 0.25, "sessions": self._rows(dict(self.sessions))}
        if method == "POST" and parts.path == "/v1/sessions":
            return self._create(SessionRequest.model_validate_json(body))
        if method == "POST" and parts.path == "/v1/sessions/end":
            for session in SessionsEnd.model_validate_json(body).ids:
                self.end_session(session)
            return 204, None
        if found := re.fullmatch(r"/v1/sessions/([^/]+)", parts.path):
            if method == "GET" and found[1] in self.relays:
                return 200, inside(found[1], SessionKind.RELAY_IN, "main")
            if found[1] not in self.sessions:
                return 404, _problem(404, "no_such_session")
            if method == "GET":
                session = self.sessions[found[1]]
                return 200, inside(session.id, session.kind, session.channel)
            return self._patch(found[1], body.decode(), if_match)
        if found := re.fullmatch(r"/v1/channels/([^/]+)/(end|resubscribe)", parts.path):
            if found[2] == "end":
                self._end_channel(found[1])
            return 204, None
        if parts.path == "/v1/terminate":
            self.terminated.set()
            return 202, None
        return 404, _problem(404, "not_found")

    def _patch(self, session: str, fragment: str, if_match: str | None) -> tuple[int, Any]:
        """Candidates for the present ICE session, or with `*` another one."""
        restarts = self.restarts.setdefault(session, [])
        if if_match not in ("*", ice_etag(session, len(restarts))):
            return 412, _problem(412, "etag_mismatch")
        if not fragment.startswith("a="):
            return 400, _problem(400, "bad_sdp")
        if if_match != "*":
            return 204, None
        found = re.search("a=ice-ufrag:(.*)\r\n", fragment)
        if found is None:
            return 204, None
        restarts.append(found[1])
        etag = ice_etag(session, len(restarts))
        return 200, {"etag": etag, "fragment": f"a=ice-lite\r\na=ice-ufrag:fake{len(restarts)}\r\n"}

    def _create(self, request: SessionRequest) -> tuple[int, Any]:
        if self.answer_delay_s:
            self._stop.wait(self.answer_delay_s)
        if self.failure is not None:
            return self.failure[0], _problem(*self.failure)
        if not request.offer.startswith("v=0"):
            return 400, _problem(400, "bad_sdp")
        if "a=crypto" in request.offer:
            return 406, _problem(406, "sdes_refused")
        self.sessions[request.id] = request
        codec = self.codec if request.kind is SessionKind.WHIP else request.video_codec
        self._codecs[request.id] = codec
        return 201, {"id": request.id, "answer": ANSWER, "video_codec": codec if self.says_codec else None}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        node = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _serve(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
                status, answer = node.control(
                    self.command,
                    self.path,
                    body,
                    self.headers.get("Authorization", ""),
                    self.headers.get("If-Match"),
                )
                content = answer if isinstance(answer, bytes) else b""
                if answer is not None and not isinstance(answer, bytes):
                    content = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.send_header("Connection", "close")  # so that a stopped node refuses at once
                self.end_headers()
                self.wfile.write(content)
                self.close_connection = True

            do_GET = do_POST = do_PATCH = _serve

            def log_message(self, format: str, *args: object) -> None:
                """Quiet."""

        return Handler


def inside(name: str, kind: SessionKind, channel: str) -> dict[str, Any]:
    """As a node would tell of a session that nobody has come to yet."""
    return {
        "id": name,
        "kind": kind,
        "channel": channel,
        "node": "as it calls itself",
        "state": "new",
        "age_s": 0.5,
        "ice": {
            "role": "lite",
            "ufrag": "ours",
            "remote_ufrag": "theirs",
            "restarts": 0,
            "restarting": False,
            "nominated": False,
            "reached": False,
        },
        "dtls": {
            "state": "waiting",
            "role": "server",
            "fingerprint": "AB:CD",
            "connection": "none",
            "parting": False,
        },
        "srtp": {},
        "rtcp": {},
    }


def _problem(status: int, code: str) -> dict[str, Any]:
    return {"status": status, "code": code, "title": code, "detail": "as the node said"}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--role", type=Role, required=True)
    parser.add_argument("--manager", required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--stubborn", action="store_true", help="does not end on SIGTERM")
    given, _ = parser.parse_known_args()
    node = FakeNode(given.manager, os.environ["SHOWCALLER_ENROL_TOKEN"], given.role, given.name)
    ending = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: None if given.stubborn else ending.set())
    node.start()
    while not ending.wait(0.1) and not node.terminated.is_set():
        pass
    node.stop()


if __name__ == "__main__":
    main()
