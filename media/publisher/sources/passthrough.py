"""An H.264 file sent as it is, without coding it anew.

Only what a live viewer can take: no B-frames (they would have to be sent out of order and shown late), and a
key frame (IDR) at least every two seconds, because nobody can make one when a viewer joins or loses a packet.
"""

import contextlib
import functools
from collections.abc import Iterator
from pathlib import Path

import av
from av.bitstream import BitStreamFilterContext

from media.publisher import annexb
from media.publisher.sources.container import Opened, duration_of, rate_of
from media.publisher.sources.file import AnyPacket, Unmade
from media.publisher.sources.port import CodedPicture, SourceInfo, SourceRejected

MAX_GOP_S = 2.0
_GOP_SLACK_S = 0.05
_LOOK_S = 300.0  # how far into the file it is checked before it goes on air


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
        self._check_order(opened, path)
        note = ""
        if context.has_b_frames:
            note = "sent as it is; its header announces B-frames, so viewers may show it some pictures late"
        elif "Baseline" not in (context.profile or ""):
            note = f"sent as it is, H.264 {context.profile}: a viewer that plays Baseline only cannot show it"
        return SourceInfo(
            name=path.name,
            width=context.width,
            height=context.height,
            fps=rate_of(opened.video),
            sound=opened.sound is not None,
            copy=True,
            duration=duration_of(opened),
            loop=loop,
            note=note,
        )

    def _check_order(self, opened: Opened, path: Path) -> None:
        last: float | None = None
        last_key: float | None = None
        first = 0.0
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
                        last_key = last
                    elif last_key is not None and last - last_key > MAX_GOP_S + _GOP_SLACK_S:
                        where = f"{last_key - first:.0f} s"
                        raise _refused(
                            path, f"after {where} it has no key frame for more than {MAX_GOP_S:g} s"
                        )
                if last is not None and last - first > _LOOK_S:
                    break
        if last is None:
            raise _refused(path, "no picture can be read from it")

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


def _refused(path: Path, why: str) -> SourceRejected:
    return SourceRejected(
        f"{path} cannot be sent as it is: {why}",
        "Leave out --copy and it is coded while it is sent, or convert it once: "
        f"ffmpeg -i {path.name} -c:v libx264 -bf 0 -g 30 -c:a copy converted.mp4",
    )
