"""OCI's instance metadata service, as far as a node asks it: over real HTTP, and as strict as the real one.

Without `Authorization: Bearer Oracle` it answers 401, elsewhere than /opc/v2/vnics/ it answers 404, to
anything but GET 405. What it knows of the machine's network interfaces, and what is wrong with it, is set.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PATH = "/opc/v2/vnics/"


def vnic(**more: Any) -> dict[str, Any]:
    """One network interface as the service describes it; public addresses are not always told."""
    return {
        "macAddr": "02:00:17:05:d1:db",
        "privateIp": "10.0.3.6",
        "subnetCidrBlock": "10.0.3.0/24",
        "virtualRouterIp": "10.0.3.1",
        "vlanTag": 11,
        "vnicId": "ocid1.vnic.oc1..unique",
        **more,
    }


@dataclass
class Metadata:
    """The service: what it answers, and what it was asked."""

    vnics: Any = field(default_factory=lambda: [vnic()])
    failures: int = 0  # so many answers are 503
    body: bytes | None = None  # instead of the interfaces
    drip: float | None = None  # seconds between two bytes of an answer
    asked: list[tuple[str, str]] = field(default_factory=list)  # method and path
    over: threading.Event = field(default_factory=threading.Event)
    port: int = 0

    @property
    def base(self) -> str:
        """For OCI_METADATA_BASE_URL."""
        return f"http://127.0.0.1:{self.port}/opc/v2"


def _handler(service: Metadata) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            service.asked.append(("GET", self.path))
            if self.headers["Authorization"] != "Bearer Oracle":
                return self._say(401, b"{}")
            if self.path != PATH:
                return self._say(404, b"{}")
            if service.failures > 0:
                service.failures -= 1
                return self._say(503, b"{}")
            body = service.body
            return self._say(200, json.dumps(service.vnics).encode() if body is None else body)

        def do_POST(self) -> None:
            service.asked.append(("POST", self.path))
            self._say(405, b"{}")

        def _say(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if service.drip is None:
                self.wfile.write(body)
                return
            for at in range(len(body)):
                if service.over.wait(service.drip):
                    return
                try:
                    self.wfile.write(body[at : at + 1])
                except OSError:
                    return  # nobody waits for it any more

        def log_message(self, format: str, *args: Any) -> None:
            """Nobody reads it."""

    return Handler


@contextmanager
def metadata_service(service: Metadata, server: ThreadingHTTPServer | None = None) -> Iterator[Metadata]:
    """Serve on loopback. `server` is one made by `bound`, where that had to be in another namespace."""
    running = server or bound(service)
    running.daemon_threads = True
    service.port = running.server_address[1]
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield service
    finally:
        service.over.set()
        running.shutdown()
        thread.join()
        running.server_close()


def bound(service: Metadata) -> ThreadingHTTPServer:
    """A server with its socket, which belongs to the network namespace it was made in."""
    return ThreadingHTTPServer(("127.0.0.1", 0), _handler(service))
