"""An H.264 file sent as it is, without coding it anew.

Only what a live viewer can take: no B-frames (they would have to be sent out of order and shown late), and
key frames (IDR) near enough to each other. Nobody can make one when a viewer joins: a node sends him all
since the last one at once, out of the last packets it keeps (`media/fanout/ring.py`), so a group of pictures
must fit in there. Where it is longer than two seconds people are told what that means.
"""

import contextlib
import functools
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
from av.bitstream import BitStreamFilterContext

from media.publisher import annexb
from media.publisher.packets import MAX_PAYLOAD, payloads
from media.publisher.sources.container import Opened, duration_of, rate_of
from media.publisher.sources.file import AnyPacket, Unmade
from media.publisher.sources.port import CodedPicture, SourceInfo, SourceRejected

MAX_GROUP_S = 10.0  # as long as a viewer waits for a picture when a loss could not be repaired
MAX_GROUP_PACKETS = 3840  # of the 4096 that a node keeps: 8 s at 4.5 Mbps
_SHORT_GROUP_S = 2.0  # up to here nothing is said about it
_SLACK_S = 0.05
_LOOK_S = 300.0  # how far into the file it is checked before it goes on air


@dataclass(slots=True)
class _Group:
    """A key frame and what follows it, as far as it was read."""

    begin: float  # seconds from the first picture
    length: float = 0.0  # seconds
    packets: int = 0


class Passthrough:
    """A way of reading a file (see file.Reading)."""

    whole = True

    def __init__(self) -> None:
        self._filter: BitStreamFilterContext | None = None
        self._parameters = b""  # SPS and PPS, Annex B

    def inspect(self, opened: Opened, path: Path, loop: bool) -> SourceInfo:
        context = opened.video.codec_context
        if context.name != "h264":
            raise _refused(path, f"its video is {context.name}, not H.264")
        if context.pix_fmt not in ("yuv420p", "yuvj420p"):
            raise _refused(path, f"its pictures are {context.pix_fmt}, and browsers play 8-bit 4:2:0 only")
        self.begin(opened)
        longest = self._longest_group(opened, path)
        notes: list[str] = []
        if context.has_b_frames:
            notes.append("its header announces B-frames, so viewers may show it some pictures late")
        elif "Baseline" not in (context.profile or ""):
            notes.append(f"it is H.264 {context.profile}: a viewer that plays Baseline only cannot show it")
        if longest > _SHORT_GROUP_S + _SLACK_S:
            notes.append(
                f"it has up to {longest:.1f} s from one key frame to the next: who joins is sent all "
                "since the last one at once, and after a loss that cannot be made good the picture waits for "
                "the next"
            )
        return SourceInfo(
            name=path.name,
            width=context.width,
            height=context.height,
            fps=rate_of(opened.video),
            sound=opened.sound is not None,
            copy=True,
            duration=duration_of(opened),
            loop=loop,
            note=f"sent as it is; {'; '.join(notes)}" if notes else "",
        )

    def _longest_group(self, opened: Opened, path: Path) -> float:
        """Seconds. Raises SourceRejected for what viewers cannot take."""
        last: float | None = None
        first = longest = 0.0
        group = _Group(0.0)
        with contextlib.suppress(av.FFmpegError):  # of the demuxer: what can be read was looked at
            for packet in opened.container.demux(opened.video):
                for unmade in self.pictures(packet):
                    if unmade.time is None:
                        raise _refused(path, "its pictures carry no times")
                    if last is None:
                        first = unmade.time
                        if not unmade.key:
                            raise _refused(path, "it does not begin with a key frame")
                    elif unmade.time <= last:
                        raise _refused(path, "it has B-frames")
                    last = unmade.time
                    if unmade.key:
                        group = _Group(last - first)
                    group.length = last - first - group.begin
                    coded = unmade.build()
                    assert isinstance(coded, CodedPicture)
                    group.packets += len(payloads(coded.data))
                    _check_group(group, path)
                    longest = max(longest, group.length)
                if last is not None and last - first > _LOOK_S:
                    break
        if last is None:
            raise _refused(path, "no picture can be read from it")
        return longest

    def begin(self, opened: Opened) -> None:
        self._filter = BitStreamFilterContext("h264_mp4toannexb", opened.video)
        extradata = opened.video.codec_context.extradata or b""
        if extradata.startswith((b"\x00\x00\x01", b"\x00\x00\x00\x01")):
            self._parameters = _parameter_sets(extradata)

    def pictures(self, packet: AnyPacket) -> Iterator[Unmade]:
        assert self._filter is not None  # begin() comes first
        if not packet.size:
            return
        for out in self._filter.filter(packet):
            data = bytes(out)
            kinds = annexb.types(data)
            key = annexb.IDR in kinds
            if key and annexb.SPS in kinds:
                self._parameters = _parameter_sets(data)
            elif key:
                data = self._parameters + data
            time = None if out.pts is None or out.time_base is None else float(out.pts * out.time_base)
            yield Unmade(time, key, functools.partial(CodedPicture, data, key))


def _parameter_sets(data: bytes) -> bytes:
    wanted = (annexb.SPS, annexb.PPS)
    return b"".join(annexb.START_CODE + unit for unit in annexb.units(data) if unit[0] & 0x1F in wanted)


def _check_group(group: _Group, path: Path) -> None:
    if group.length > MAX_GROUP_S + _SLACK_S:
        raise _refused(path, f"after {group.begin:.0f} s it has no key frame for more than {MAX_GROUP_S:g} s")
    if group.packets > MAX_GROUP_PACKETS:
        most, had = MAX_GROUP_PACKETS * MAX_PAYLOAD / 1e6, group.length
        raise _refused(
            path,
            f"after {group.begin:.0f} s it has no key frame within {most:.1f} MB ({had:.1f} s), "
            "and a node keeps no more for viewers who join",
        )


def _refused(path: Path, why: str) -> SourceRejected:
    made = (
        f"./{path.stem}-as-it-is.mkv"  # MKV takes any sound as it is; another name, so never the file itself
    )
    command = ["ffmpeg", "-i", str(path.absolute()), "-c:v", "libx264", "-pix_fmt", "yuv420p", "-bf", "0"]
    command += ["-g", "30", "-c:a", "copy", "-sn", made]
    return SourceRejected(
        f"{path} cannot be sent as it is: {why}",
        f"Leave out --copy and it is coded while it is sent, or convert it once: {shlex.join(command)}",
    )
