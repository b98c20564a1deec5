"""A page of another origin than the stage's, with nothing in it but a video element that plays by itself."""

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager

PAGE = (
    b"<!doctype html><meta charset=utf-8><title>elsewhere</title><video autoplay muted playsinline></video>"
)


class _Elsewhere(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        found = self.path == "/"  # and no icon
        self.send_response(200 if found else 404)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        if found:
            self.wfile.write(PAGE)

    def log_message(self, *_: object) -> None: ...


@contextmanager
def page_elsewhere() -> Iterator[str]:
    """Its address, which is that of a server of its own."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Elsewhere) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            serving.join()
