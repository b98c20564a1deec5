"""The pages people see: what is on air (`/`), the watch page (`/watch/{channel}`), and their static files.

Everything a page needs is in this package and comes from this server: no other host, no build step, and no
inline script or style, so the content security policy can forbid them. The templates escape what they print.
Media and events are not served here: the pages find WHEP and the event feeds beside themselves.
"""

import functools
import hashlib
import mimetypes
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fastapi import APIRouter, FastAPI, HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from controlplane.wire.api import CHANNEL_PATTERN, CHANNEL_RULE, StreamView

HERE = Path(__file__).parent

# Loaded side by side with the page's script: without it each import would cost a round trip before the first
# picture.
WATCH_MODULES = ("player.js", "whep.js", "events.js", "measure.js", "timecode.js")

STATE_WORDS = {
    "connecting": "Starting",
    "live": "Live",
    "stalled": "No signal from the broadcaster",
    "reconnecting": "No signal from the broadcaster",
}

PAGE_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; media-src 'self' blob:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Cache-Control": "no-store",
}


@dataclass(frozen=True)
class StaticFile:
    """A file under /static/, read once: there are few, they are small, and no path is looked up on disk."""

    content: bytes
    media_type: str
    etag: str


def read_static(folder: Path) -> dict[str, StaticFile]:
    files = {}
    for path in sorted(folder.iterdir()):
        # mimetypes asks the system's own tables, which may call .js anything; a module must be JavaScript.
        kind = {".js": "text/javascript", ".svg": "image/svg+xml", ".css": "text/css"}.get(path.suffix)
        content = path.read_bytes()
        files[path.name] = StaticFile(
            content=content,
            media_type=kind or mimetypes.guess_type(path.name)[0] or "application/octet-stream",
            etag=f'"{hashlib.sha256(content).hexdigest()[:32]}"',
        )
    return files


# Functions of the module and no closures: FastAPI keeps every function that it has served, and what it holds.
routes = APIRouter(include_in_schema=False)


def serve(app: FastAPI, on_air: Callable[[], list[StreamView]]) -> None:
    """The pages, on `app`. `on_air` tells what is on air now; it must not wait."""
    app.state.on_air = on_air
    app.include_router(routes)


@functools.cache
def _files() -> dict[str, StaticFile]:
    return read_static(HERE / "static")


@functools.cache
def _templates() -> Environment:
    return Environment(
        loader=FileSystemLoader(HERE / "templates"), autoescape=True, undefined=StrictUndefined
    )


def _render(request: Request, name: str, status: int = 200, **values: object) -> HTMLResponse:
    root = request.scope.get("root_path", "").rstrip("/")
    page = _templates().get_template(name).render(root=root, **values)
    return HTMLResponse(page, status_code=status, headers=PAGE_HEADERS)


@routes.api_route("/", methods=["GET", "HEAD"])
async def home(request: Request) -> Response:
    streams = sorted(request.app.state.on_air(), key=lambda stream: stream.channel)
    return _render(request, "home.html", streams=streams, words=STATE_WORDS)


@routes.api_route("/watch/{channel}", methods=["GET", "HEAD"])
async def watch(request: Request, channel: str) -> Response:
    if not re.fullmatch(CHANNEL_PATTERN, channel):
        return _render(request, "missing.html", status=404, rule=CHANNEL_RULE)
    return _render(request, "watch.html", channel=channel, modules=WATCH_MODULES)


@routes.api_route("/watch", methods=["GET", "HEAD"])
@routes.api_route("/watch/", methods=["GET", "HEAD"])
async def no_channel(request: Request) -> Response:
    """An address cut short: what can be watched is on the first page."""
    return RedirectResponse(request.scope.get("root_path", "").rstrip("/") + "/", 302)


@routes.api_route("/watch/{rest:path}", methods=["GET", "HEAD"])
async def nothing_there(request: Request, rest: str) -> Response:
    """A browser gets a page; a program the same answer as everywhere."""
    if "text/html" not in request.headers.get("Accept", ""):
        raise HTTPException(404)
    return _render(request, "missing.html", status=404, rule=CHANNEL_RULE)


@routes.api_route("/static/{name}", methods=["GET", "HEAD"])
async def static(request: Request, name: str) -> Response:
    file = _files().get(name)
    if file is None:
        return Response("no such file\n", status_code=404, media_type="text/plain")
    # Always asked for again, answered by 304 while it is the same: a page never mixes two versions.
    headers = {"ETag": file.etag, "Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"}
    if file.etag in request.headers.get("If-None-Match", ""):
        return Response(status_code=304, headers=headers)
    return Response(file.content, media_type=file.media_type, headers=headers)
