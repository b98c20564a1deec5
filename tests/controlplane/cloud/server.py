"""The cloud of tests/controlplane/services/cloud.py behind HTTP, and on each instance a node that reports.

    POST   /instances        {"node", "token", "retry", "manager"}: the instance, once per retry token
    GET    /instances        {"instances": [...], "complete": bool}; `?watch`: brings nothing about
    DELETE /instances/{pid}

An answer that is lost is a connection that is closed without one. Before a launch is done, and after it and
before its answer, `moment` is called: a test kills or stops a manager there.

A node enrols with its token and reports twice a second, at the manager that launched it or else at another
one that is in `managers` (as a balancer would send it) or that an answer has named. It ends, and its instance
with it, where its token is refused or it is told to.
"""

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from controlplane.ports.provisioner import Instance, LaunchSpec, Listing, ProvisionUnknown
from controlplane.wire.nodes import EnrolAnswer, EnrolRequest, NodeReport, ReportAnswer, Role
from tests.controlplane.services.cloud import Cloud

REPORT_S = 0.5
CALL_S = 1.0  # that a node waits for a manager, which may be stopped
FINGERPRINT = ":".join(["AB"] * 32)


@dataclass
class Node:
    """What runs on an instance."""

    instance: Instance
    token: str
    managers: list[str]  # the one that answered last first
    enrolled: EnrolAnswer | None = None
    over: bool = False  # its token was refused, or it was told to end
    seq: int = 0

    def second(self, managers: list[str]) -> None:
        """Enrols or reports, at the first manager that answers."""
        for url in dict.fromkeys([*self.managers, *managers]):
            try:
                self._say(url)
            except (OSError, http.client.HTTPException):
                continue
            self.managers = [url, *(it for it in self.managers if it != url)]
            return

    def _say(self, url: str) -> None:
        if self.enrolled is None:
            asked = EnrolRequest(
                token=self.token,
                control_url="https://127.0.0.1:9",
                control_fingerprint=FINGERPRINT,
                addresses=["127.0.0.1"],
                workers=[],
                version="0",
                pid=self.instance.pid or 1,
                start_time=self.instance.start_time or 0.0,
            )
            status, body = call(url, "POST", "/api/v1/nodes/enrol", asked.model_dump_json())
            if status == 200:
                self.enrolled = EnrolAnswer.model_validate_json(body)
            self.over = status == 403
            return
        self.seq += 1
        report = NodeReport(at=time.time(), seq=self.seq, connections=0, egress_bps=0.0, ingress_bps=0.0)
        path = f"/api/v1/nodes/{self.enrolled.node_id}/report"
        status, body = call(url, "POST", path, report.model_dump_json(), self.enrolled.credential)
        if status == 200:
            answer = ReportAnswer.model_validate_json(body)
            self.managers += [it for it in answer.managers if it not in self.managers]
            self.over = any(order.kind == "terminate" for order in answer.orders)


def call(url: str, method: str, path: str, body: str, credential: str = "") -> tuple[int, bytes]:
    """Raises OSError and HTTPException."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=CALL_S)
    headers = {"Content-Type": "application/json"}
    if credential:
        headers["Authorization"] = f"Bearer {credential}"
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


@dataclass
class HttpCloud:
    """The cloud while it serves. `moment(where)` is called by the threads that answer."""

    cloud: Cloud = field(default_factory=lambda: Cloud(now=time.monotonic, late_s=0.5))
    managers: list[str] = field(default_factory=list)
    moment: Callable[[str], None] = lambda where: None
    nodes: dict[int, Node] = field(default_factory=dict)
    listings: int = 0  # complete ones that were answered, to who did not only watch
    url: str = ""
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _stop: threading.Event = field(default_factory=threading.Event)

    def instances(self) -> list[Instance]:
        with self._lock:
            return [*self.cloud.instances, *self.cloud.late]

    def power_cut(self) -> None:
        """Every instance is gone, as if its rack had lost its power."""
        with self._lock:
            self.cloud.ended += len(self.cloud.instances)
            self.cloud.instances.clear()
            self.cloud.late.clear()
            self.nodes.clear()

    # what is asked of it

    def launch(self, asked: dict[str, Any]) -> Instance:
        self.moment("before a launch")
        spec = LaunchSpec(asked["node"], Role.EDGE, 1, asked["token"], asked["retry"])
        try:
            with self._lock:
                try:
                    return self.cloud.launch(spec)
                finally:
                    for instance in (*self.cloud.instances, *self.cloud.late):
                        if instance.retry == spec.retry:
                            made = Node(instance, spec.token, [asked["manager"]])
                            self.nodes.setdefault(instance.pid or 0, made)
        finally:
            self.moment("after a launch")

    def listing(self, *, only_watches: bool) -> Listing:
        with self._lock:
            if only_watches:
                return Listing(tuple(self.cloud.instances))
            listing = self.cloud.list()
            self.listings += listing.complete
            return listing

    def end(self, pid: int) -> None:
        with self._lock:
            found = [it for it in self.cloud.instances if it.pid == pid]
            try:
                for instance in found:
                    self.cloud.end(instance)
            finally:
                if not any(it.pid == pid for it in self.cloud.instances):
                    self.nodes.pop(pid, None)

    # its nodes

    def report_forever(self) -> None:
        with ThreadPoolExecutor(8) as pool:
            while not self._stop.wait(REPORT_S):
                with self._lock:
                    running = {it.pid for it in self.cloud.instances}
                    nodes = [it for pid, it in self.nodes.items() if pid in running]
                managers = list(self.managers)
                said = [pool.submit(node.second, managers) for node in nodes]
                wait(said)
                for one in said:
                    one.result()
                for node in nodes:
                    if node.over:
                        self._ends(node)

    def _ends(self, node: Node) -> None:
        with self._lock:
            if node.instance in self.cloud.instances:
                self.cloud.instances.remove(node.instance)
                self.cloud.ended += 1
                self.nodes.pop(node.instance.pid or 0, None)


def _handler(served: HttpCloud) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self._answer(lambda: _said(served.launch(asked)))

        def do_GET(self) -> None:
            def listing() -> dict[str, Any]:
                found = served.listing(only_watches=self.path.endswith("?watch"))
                return {"instances": [_said(it) for it in found.instances], "complete": found.complete}

            self._answer(listing)

        def do_DELETE(self) -> None:
            def end() -> dict[str, Any]:
                served.end(int(self.path.rpartition("/")[2]))
                return {}

            self._answer(end)

        def _answer(self, work: Callable[[], dict[str, Any]]) -> None:
            try:
                content = json.dumps(work()).encode()
            except ProvisionUnknown:
                self.close_connection = True
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    return Handler


def _said(instance: Instance) -> dict[str, Any]:
    return {"node": instance.node, "pid": instance.pid, "retry": instance.retry}


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Who asked was killed: nobody is there to be answered."""


@contextmanager
def serving() -> Iterator[HttpCloud]:
    """A cloud on a free port of loopback, and its nodes; ended at the end."""
    served = HttpCloud()
    server = _Server(("127.0.0.1", 0), _handler(served))
    served.url = f"http://127.0.0.1:{server.server_address[1]}"
    threads = [
        threading.Thread(target=server.serve_forever, args=(0.05,)),
        threading.Thread(target=served.report_forever),
    ]
    for thread in threads:
        thread.start()
    try:
        yield served
    finally:
        served._stop.set()
        server.shutdown()
        server.server_close()
        for thread in threads:
            thread.join()
