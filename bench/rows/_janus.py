"""Janus, for comparison: its streaming plugin at its best tuning, and how a crowd of ours comes in.

    python -m bench.rows._janus URL VIEWERS RAMP     a crowd, as `media.swarm part` is one by WHEP

Janus is taken as Debian packages it, and runs as a process of its own with a configuration of its own on free
ports of loopback. Best tuning: one event loop for all viewers (event_loops=1), AES-128-GCM (the first profile
that both sides have), ICE-lite.
"""

import asyncio
import contextlib
import secrets
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil

from bench.figures import NotRun
from media.core.codecs import video_codec
from media.core.description import Codec, Section, parse
from media.core.errors import NegotiationError
from media.core.sdp import Agreed, AgreedTrack, LocalDescription, RemoteTransport
from media.publisher.errors import PublishError, Refused, TimedOut
from media.swarm import part

MOUNTPOINT = 1
VIDEO, AUDIO = 96, 111
START_S = 20.0
CALL_S = 20.0
PLUGIN = "janus.plugin.streaming"


class JanusDoor:
    """media.swarm.crowd.Door by Janus's own HTTP API: here the server offers."""

    def __init__(self, url: str) -> None:
        """`url`: http://HOST:PORT/janus"""
        self.url = url
        self._http = httpx.AsyncClient(trust_env=False, timeout=CALL_S)

    async def _call(self, path: str, verb: str, **more: Any) -> dict[str, Any]:
        body = {"janus": verb, "transaction": secrets.token_hex(6), **more}
        try:
            answer: dict[str, Any] = (await self._http.post(f"{self.url}{path}", json=body)).json()
        except (httpx.HTTPError, ValueError) as error:
            raise TimedOut(f"Janus did not answer: {error or type(error).__name__}", "See its log.") from None
        if answer["janus"] == "error":
            raise Refused(f"Janus refused: {answer['error'].get('reason')}", "See its log.")
        return answer

    async def enter(self, local: LocalDescription) -> tuple[Agreed, str]:
        session = f"/{(await self._call('', 'create'))['data']['id']}"
        handle = f"{session}/{(await self._call(session, 'attach', plugin=PLUGIN))['data']['id']}"
        await self._call(handle, "message", body={"request": "watch", "id": MOUNTPOINT})
        offer = await self._offer(session)
        try:
            agreed = answer_viewer(offer, local)
        except NegotiationError as error:
            raise Refused(f"Janus's offer cannot be used: {error.detail}", "See its log.") from None
        jsep = {"type": "answer", "sdp": agreed.answer}
        await self._call(handle, "message", body={"request": "start"}, jsep=jsep)
        return agreed, session

    async def _offer(self, session: str) -> str:
        for _ in range(10):  # what else is said there is of no interest
            try:
                event = (await self._http.get(f"{self.url}{session}?maxev=1")).json()
            except (httpx.HTTPError, ValueError) as error:
                raise TimedOut(
                    f"Janus made no offer: {error or type(error).__name__}", "See its log."
                ) from None
            if "jsep" in event:
                return str(event["jsep"]["sdp"])
        raise TimedOut("Janus made no offer", "See its log.")

    async def leave(self, ticket: str) -> None:
        with contextlib.suppress(PublishError):
            await self._call(ticket, "destroy")

    async def close(self) -> None:
        await self._http.aclose()


def answer_viewer(offer: str, local: LocalDescription) -> Agreed:
    """Receive all of an offer's sections, in the offer's first codec of each."""
    parsed = parse(offer)
    lines = ["v=0", f"o=- {local.session_id} 1 IN IP4 127.0.0.1", "s=-", "t=0 0"]
    lines.append("a=group:BUNDLE " + " ".join(section.mid for section in parsed.sections))
    tracks = {}
    for section in parsed.sections:
        codec = section.codecs[0]
        tracks[section.kind] = _track(section, codec)
        lines += [f"m={section.kind} 9 {section.protocol} {codec.payload_type}", "c=IN IP4 0.0.0.0"]
        lines += [f"a=mid:{section.mid}", "a=recvonly", "a=rtcp-mux", "a=setup:active"]
        lines += [f"a=ice-ufrag:{local.credentials.ufrag}", f"a=ice-pwd:{local.credentials.password}"]
        lines.append(f"a=fingerprint:sha-256 {local.fingerprint}")
        channels = f"/{codec.channels}" if codec.channels > 1 else ""
        lines.append(f"a=rtpmap:{codec.payload_type} {codec.name}/{codec.clock_rate}{channels}")
        lines += [f"a=fmtp:{codec.payload_type} {codec.fmtp}"] if codec.fmtp else []
        lines += [f"a=rtcp-fb:{codec.payload_type} {value}" for value in codec.feedback]
        lines += [
            f"a=candidate:1 1 udp 2130706431 {address} {port} typ host" for address, port in local.addresses
        ]
    first = parsed.sections[0]
    if first.credentials is None:
        raise NegotiationError(400, "bad_sdp", "It has no ICE credentials.")
    candidates = tuple(c for section in parsed.sections for c in section.candidates)
    remote = RemoteTransport(
        first.credentials, first.fingerprints, first.setup, parsed.shape.ice_lite, candidates
    )
    return Agreed("\r\n".join(lines) + "\r\n", remote, "client", tracks.get("video"), tracks.get("audio"))


def _track(section: Section, codec: Codec) -> AgreedTrack:
    return AgreedTrack(
        kind="video" if section.kind == "video" else "audio",
        mid=section.mid,
        payload_type=codec.payload_type,
        rtx_payload_type=None,
        clock_rate=codec.clock_rate,
        channels=codec.channels,
        fmtp=codec.fmtp,
        feedback=codec.feedback,
        extensions=(),
        remote_ssrc=section.ssrcs[0] if section.ssrcs else None,
        remote_rtx_ssrc=None,
        codec=video_codec(codec.name) if section.kind == "video" else None,
    )


def free_port(kind: socket.SocketKind) -> int:
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@contextmanager
def janus(folder: Path, source: Path) -> Iterator[tuple[psutil.Process, str]]:
    """Janus with a stream of `source` on mountpoint 1; its process, and the address of its API."""
    program, ffmpeg = shutil.which("janus"), shutil.which("ffmpeg")
    if program is None:
        raise NotRun("no Janus here: apt-get install janus")
    if ffmpeg is None:
        raise NotRun("no ffmpeg here: apt-get install ffmpeg")
    # As it goes out, parameter sets at each key frame: a filter on the way would end with the first round.
    stream = folder / "clip.ts"
    filters = "h264_mp4toannexb,dump_extra=freq=keyframe"
    copy = ["-i", str(source), "-c", "copy", "-bsf:v", filters, "-f", "mpegts", str(stream)]
    subprocess.run([ffmpeg, "-v", "error", *copy], check=True)
    port = free_port(socket.SOCK_STREAM)
    video, audio = free_port(socket.SOCK_DGRAM), free_port(socket.SOCK_DGRAM)
    configure(folder, port, video, audio)
    url = f"http://127.0.0.1:{port}/janus"
    log = folder / "janus.log"
    with log.open("w") as out:
        server = subprocess.Popen(
            [program, "-F", str(folder)], stdin=subprocess.DEVNULL, stdout=out, stderr=out
        )
    feed: subprocess.Popen[bytes] | None = None
    try:
        wait_for_janus(url, server, log)
        feed = subprocess.Popen(
            [
                *(ffmpeg, "-v", "error", "-re", "-stream_loop", "-1", "-i", str(stream)),
                *("-map", "0:v", "-c:v", "copy", "-payload_type", str(VIDEO)),
                *("-f", "rtp", f"rtp://127.0.0.1:{video}?pkt_size=1200"),
                *("-map", "0:a", "-c:a", "libopus", "-b:a", "96k", "-payload_type", str(AUDIO)),
                *("-f", "rtp", f"rtp://127.0.0.1:{audio}?pkt_size=1200"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        yield psutil.Process(server.pid), url
    finally:
        for process in (feed, server):
            if process is not None:
                process.terminate()
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


def configure(folder: Path, port: int, video: int, audio: int) -> None:
    libraries = next(
        (path for path in Path("/usr/lib").glob("*/janus") if path.is_dir()), Path("/usr/lib/janus")
    )
    unused = ",".join(
        path.name for path in (libraries / "plugins").glob("*.so") if path.name != "libjanus_streaming.so"
    )
    others = ",".join(
        path.name for path in (libraries / "transports").glob("*.so") if path.name != "libjanus_http.so"
    )
    (folder / "janus.jcfg").write_text(
        f"""
general: {{
    configs_folder = "{folder}"
    plugins_folder = "{libraries}/plugins"
    transports_folder = "{libraries}/transports"
    debug_level = 3
    session_timeout = 0
    event_loops = 1
}}
media: {{ ipv6 = false }}
nat: {{ ice_lite = true }}
plugins: {{ disable = "{unused}" }}
transports: {{ disable = "{others}" }}
"""
    )
    (folder / "janus.transport.http.jcfg").write_text(
        f"""
general: {{
    json = "compact"
    base_path = "/janus"
    http = true
    port = {port}
    ip = "127.0.0.1"
    https = false
}}
admin: {{ admin_http = false }}
"""
    )
    (folder / "janus.plugin.streaming.jcfg").write_text(
        f"""
bench: {{
    type = "rtp"
    id = {MOUNTPOINT}
    audio = true
    video = true
    audioport = {audio}
    audiopt = {AUDIO}
    audiocodec = "opus"
    videoport = {video}
    videopt = {VIDEO}
    videocodec = "h264"
    videofmtp = "profile-level-id=42e01f;packetization-mode=1"
}}
"""
    )


def wait_for_janus(url: str, server: "subprocess.Popen[bytes]", log: Path) -> None:
    with httpx.Client(trust_env=False, transport=httpx.HTTPTransport(retries=20)) as http:
        for _ in range(200):
            if server.poll() is not None:
                raise RuntimeError(f"Janus has ended with {server.returncode}: {log.read_text()[-500:]}")
            with contextlib.suppress(httpx.HTTPError):
                if http.get(f"{url}/info", timeout=START_S).status_code == 200:
                    return
    raise RuntimeError("Janus does not answer")


async def crowd(url: str, viewers: int, ramp: float) -> None:
    await part.run(JanusDoor(url), viewers, ramp)


if __name__ == "__main__":
    asyncio.run(crowd(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
