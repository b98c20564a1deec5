"""A node's managers: it stays with one, and asks the others in the same call when that does not answer."""

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from controlplane.wire.nodes import NodeReport
from media.node.manager import ManagerAway, ManagerClient, ManagerRefused

REPORT = NodeReport(at=1.0, seq=1, connections=0, egress_bps=0.0, ingress_bps=0.0)


class Manager:
    """Answers reports with a status, and names managers."""

    def __init__(self) -> None:
        self.asked = 0
        self.status = 200
        self.names: list[str] = []
        manager = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                manager.asked += 1
                content = json.dumps({"managers": manager.names}).encode()
                self.send_response(manager.status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: object) -> None:
                """Quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def managers() -> Iterator[Callable[[], Manager]]:
    with contextlib.ExitStack() as closing:

        def made() -> Manager:
            manager = Manager()
            closing.callback(manager.stop)
            return manager

        yield made


async def test_it_stays_with_one_until_that_does_not_answer(managers: Callable[[], Manager]) -> None:
    a, b = managers(), managers()
    a.names = [b.url, a.url]
    client = ManagerClient(a.url)
    for _ in range(3):
        await client.report(REPORT)
    assert (a.asked, b.asked) == (3, 0)
    a.stop()
    await client.report(REPORT)  # answered, by the other one, in the same call
    assert (b.asked, client.url) == (1, b.url)
    await client.report(REPORT)
    assert b.asked == 2
    await client.close()


async def test_one_that_is_overloaded_is_passed_over_and_one_that_refuses_is_believed(
    managers: Callable[[], Manager],
) -> None:
    a, b = managers(), managers()
    client = ManagerClient(f"{a.url}, {b.url}/")
    a.status = 503
    await client.report(REPORT)
    assert (a.asked, b.asked) == (1, 1)
    b.status = 401
    with pytest.raises(ManagerRefused):
        await client.report(REPORT)
    assert (a.asked, b.asked) == (1, 2)
    await client.close()


async def test_when_nobody_answers_it_says_so_of_the_one_it_was_with(managers: Callable[[], Manager]) -> None:
    a, b = managers(), managers()
    client = ManagerClient(f"{a.url},{b.url}")
    a.stop()
    b.stop()
    with pytest.raises(ManagerAway, match=a.url):
        await client.report(REPORT)
    await client.close()


async def test_nobody_is_followed_to_another_scheme_and_who_was_given_is_not_forgotten(
    managers: Callable[[], Manager],
) -> None:
    a, b, c = managers(), managers(), managers()
    a.names = ["https://127.0.0.1:1", b.url]
    client = ManagerClient(a.url)
    await client.report(REPORT)
    assert client._others == [b.url]
    b.names = [b.url, c.url]
    a.status = 500
    await client.report(REPORT)
    assert client.url == b.url
    assert client._others == [c.url, a.url]
    await client.close()
