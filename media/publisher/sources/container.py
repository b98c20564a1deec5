"""Opening a media file: which files are taken, and what is said about the others."""

import os
import stat
from dataclasses import dataclass
from pathlib import Path

import av
from av.container import InputContainer
from av.stream import Disposition

from media.publisher.sources.port import SourceRejected

# Only demuxers of films. FFmpeg takes a text file for terminal art and a picture for a film of one frame.
_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,mpegts,mpeg,mpegvideo,avi,flv,live_flv,asf,ogg,mxf,gxf,nut,wtv,dv,"
    "h264,hevc,m4v,ivf,obu,av1,yuv4mpegpipe,rm,vob,wav,mp3,flac,aac,aiff,caf,w64,au,amr,ac3,eac3"
)
_OPTIONS = {"format_whitelist": _FORMATS, "protocol_whitelist": "file"}
_MEDIA_HINT = "Give a video file such as MP4, MKV, WebM, MOV or TS."


@dataclass
class Opened:
    container: InputContainer
    video: av.VideoStream
    sound: av.AudioStream | None
    video_start: float  # seconds; time 0 of the show within the file


def check_path(path: Path) -> None:
    """Refuse what is no readable file, in words about the path."""
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise SourceRejected(f"there is no file {path}", "Check the path.") from None
    except PermissionError:
        raise SourceRejected(f"{path} may not be read", "Check the rights of its folder.") from None
    except OSError as error:
        raise SourceRejected(f"{path} cannot be looked at: {error.strerror}", "Check the path.") from None
    if stat.S_ISDIR(mode):
        raise SourceRejected(f"{path} is a folder", "Give one video file of it.")
    if not stat.S_ISREG(mode):
        raise SourceRejected(f"{path} is not a regular file", _MEDIA_HINT)
    if not os.access(path, os.R_OK):
        raise SourceRejected(
            f"{path} may not be read", f"Allow it (chmod +r) or publish as its owner, {path.owner()}."
        )


def open_file(path: Path) -> Opened:
    check_path(path)
    try:
        # The "file:" keeps a name with a colon in it from being taken for a protocol.
        container = av.open(f"file:{path}", options=dict(_OPTIONS))
    except PermissionError:
        raise SourceRejected(
            f"{path} may not be read", "Allow it (chmod +r) or choose another file."
        ) from None
    except av.FFmpegError as error:
        why = "is empty" if path.stat().st_size == 0 else f"is not a video file ({error.strerror})"
        raise SourceRejected(f"{path} {why}", _MEDIA_HINT) from None
    try:
        return _streams(container, path)
    except SourceRejected:
        container.close()
        raise


def _streams(container: InputContainer, path: Path) -> Opened:
    # A cover picture is a video stream to FFmpeg, and not to anybody else.
    cover = Disposition.attached_pic | Disposition.still_image
    video = next((s for s in container.streams.video if not s.disposition & cover), None)
    if video is None:
        what = "has sound but no video" if container.streams.audio else "has no video in it"
        raise SourceRejected(f"{path} {what}", _MEDIA_HINT)
    if video.codec_context is None:
        raise SourceRejected(
            f"the video of {path} is in a format unknown here", "Convert it to H.264 with ffmpeg."
        )
    sound = next((s for s in container.streams.audio if s.codec_context is not None), None)
    start = (
        float(video.start_time * video.time_base) if video.start_time is not None and video.time_base else 0.0
    )
    return Opened(container, video, sound, start)


def duration_of(opened: Opened) -> float | None:
    """Seconds of picture in one pass, as the file says it."""
    video = opened.video
    if video.duration and video.time_base:
        return float(video.duration * video.time_base)
    if opened.container.duration:
        return float(opened.container.duration) / 1e6
    return None


def rate_of(video: av.VideoStream) -> float:
    for rate in (video.average_rate, video.guessed_rate, video.base_rate):
        if rate and 1 <= float(rate) <= 240:
            return float(rate)
    return 30.0


def pixel_aspect_of(video: av.VideoStream) -> float:
    """Width of a pixel over its height."""
    aspect = video.sample_aspect_ratio
    return float(aspect) if aspect and 0.1 < float(aspect) < 10 else 1.0
