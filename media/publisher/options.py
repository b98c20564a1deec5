"""The command line of `python -m media.publisher`, checked: what comes out of here makes sense."""

import argparse
import math
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NoReturn, TypeAlias, cast, get_args
from urllib.parse import urlsplit

from controlplane.wire.api import CHANNEL_PATTERN, CHANNEL_RULE
from media import timecode
from media.publisher.errors import UsageError

Codec: TypeAlias = Literal["h264", "vp8"]
SPOKEN: dict[Codec, str] = {"h264": "H.264", "vp8": "VP8"}
DEFAULT_BITRATE = 4_500_000.0
_LEAST_BITRATE, _MOST_BITRATE = 100_000.0, 100_000_000.0
_MOST_SIDE = 3840


@dataclass(frozen=True)
class Options:
    whip: str
    channel: str
    source: str
    token: str
    codec: Codec
    bitrate: float
    loop: bool
    copy: bool
    size: tuple[int, int] | None
    fps: float | None
    report: str | None
    json: bool
    run_dir: Path | None
    name: str | None
    log_json: bool


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message, "See: showcaller publish --help")


def parse_bitrate(text: str) -> float:
    """Bits per second from `4.5M`, `800k` or `4500000`."""
    match = re.fullmatch(r"\s*([+-]?[0-9]*\.?[0-9]+(?:e[0-9]+)?)\s*([kKmM]?)(?:bps|bit/s)?\s*", text)
    if match is None:
        raise UsageError(f"'{text}' is not a bitrate", "Give one such as 4.5M, 800k or 4500000.")
    bps = float(match[1]) * {"": 1, "k": 1e3, "m": 1e6}[match[2].lower()]
    if not math.isfinite(bps) or bps <= 0:
        raise UsageError(f"a bitrate of {text} sends nothing", "Give one such as 4.5M, 800k or 4500000.")
    if bps < _LEAST_BITRATE:
        raise UsageError(
            f"{text} bit/s is too little for a picture", "Give at least 100k (did you mean 4.5M?)."
        )
    if bps > _MOST_BITRATE:
        raise UsageError(f"{text} is more than 100 Mbps", "Give one such as 4.5M.")
    return bps


def parse_size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([0-9]{1,5})[xX]([0-9]{1,5})", text)
    if match is None:
        raise UsageError(f"'{text}' is not a picture size", "Give one such as 1280x720.")
    width, height = int(match[1]), int(match[2])
    if width % 2 or height % 2:
        raise UsageError(f"{text} has an odd side", "Give even ones, such as 1280x720.")
    if width < timecode.MIN_WIDTH or height < timecode.MIN_HEIGHT or max(width, height) > _MOST_SIDE:
        raise UsageError(f"{text} cannot be sent", "Give a size from 640x360 to 3840x2160.")
    return width, height


def parse_codec(text: str) -> Codec:
    for codec in get_args(Codec):
        if text.lower() == codec:
            return cast(Codec, codec)
    raise UsageError(f"'{text}' is no codec that can be sent", "Give h264 or vp8.")


def parse_fps(text: str) -> float:
    try:
        fps = float(text)
    except ValueError:
        fps = math.nan
    if not 1 <= fps <= 60:
        raise UsageError(f"'{text}' is not a rate of pictures a second", "Give one from 1 to 60.")
    return fps


def parse_url(text: str, flag: str) -> str:
    import httpx  # what will use it, and refuses more: control characters, hosts that are none

    try:
        parts = urlsplit(text)
        _ = parts.port, httpx.URL(text)  # raise for a port, or an address, that is none
    except (ValueError, httpx.InvalidURL):
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(
            f"{flag} '{text}' is no http address", "Give one such as http://127.0.0.1:8080/whip/main."
        )
    return text


def detached() -> bool:
    """Whether this process was started into a session of its own, with nobody at a terminal."""
    return os.name == "posix" and os.getsid(0) == os.getpid() and not sys.stdin.isatty()


def parser() -> argparse.ArgumentParser:
    it = _Parser(
        prog="showcaller publish",
        description="Publish a source to a channel by WHIP, until stopped. The publish token is read from "
        "the environment, SHOWCALLER_TOKEN.",
    )
    it.add_argument("--whip", required=True, metavar="URL", help="WHIP address of the channel")
    it.add_argument("--channel", required=True, metavar="NAME")
    it.add_argument("--source", required=True, metavar="test|PATH", help="the test pattern, or a video file")
    it.add_argument("--bitrate", default=None, help="of all that is sent (4.5M)")
    it.add_argument("--codec", default=None, metavar="h264|vp8", help="what pictures are coded in (h264)")
    it.add_argument("--loop", action="store_true", help="begin a file again when it is over")
    it.add_argument("--copy", action="store_true", help="send an H.264 file as it is, without coding it anew")
    it.add_argument(
        "--size", default=None, metavar="WxH", help="1280x720 for the test pattern; a file has its own"
    )
    it.add_argument("--fps", default=None, help="30 for the test pattern; a file has its own")
    it.add_argument("--report", default=None, metavar="URL", help="where to report to once a second")
    it.add_argument("--json", action="store_true", help="print one JSON object a second")
    it.add_argument(
        "--run-dir", default=None, type=Path, metavar="DIR", help="where records of processes are kept"
    )
    it.add_argument("--name", default=None, help="name of this process in those records")
    logs = it.add_mutually_exclusive_group()
    logs.add_argument("--log-json", action="store_true", default=None, help="log JSON lines to stderr")
    logs.add_argument(
        "--log-plain", action="store_false", dest="log_json", help="only warnings, as sentences"
    )
    return it


def parse(argv: Sequence[str]) -> Options:
    """Raises UsageError. `--help` exits as argparse does."""
    # "-5M" after a flag looks like another flag to argparse: hand it over as the value it is meant to be.
    words: list[str] = []
    for word in argv:
        if words and words[-1] in ("--bitrate", "--fps", "--size") and re.match(r"-[0-9.]", word):
            words[-1] += "=" + word
        else:
            words.append(word)
    args = parser().parse_args(words)
    if not re.fullmatch(CHANNEL_PATTERN, args.channel):
        raise UsageError(
            f"'{args.channel}' cannot be a channel's name",
            f"{CHANNEL_RULE}, such as main.",
        )
    if not args.source:
        raise UsageError("no source was given", "Give 'test' or the path of a video file.")
    if args.copy and args.bitrate is not None:
        raise UsageError("--copy sends a file at its own bitrate", "Leave out --bitrate or --copy.")
    codec: Codec = "h264" if args.codec is None else parse_codec(args.codec)
    if args.copy and codec != "h264":
        raise UsageError("--copy sends H.264 as it is in the file", "Leave out --codec or --copy.")
    if args.copy and (args.size is not None or args.fps is not None):
        raise UsageError("--copy sends pictures as they are", "Leave out --size and --fps, or --copy.")
    return Options(
        whip=parse_url(args.whip, "--whip"),
        channel=args.channel,
        source=args.source,
        token=os.environ.get("SHOWCALLER_TOKEN", "").strip(),
        codec=codec,
        bitrate=DEFAULT_BITRATE if args.bitrate is None else parse_bitrate(args.bitrate),
        loop=args.loop,
        copy=args.copy,
        size=None if args.size is None else parse_size(args.size),
        fps=None if args.fps is None else parse_fps(args.fps),
        report=None if args.report is None else parse_url(args.report, "--report"),
        json=args.json,
        run_dir=args.run_dir,
        name=args.name,
        log_json=detached() if args.log_json is None else args.log_json,
    )
