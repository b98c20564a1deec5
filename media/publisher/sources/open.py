"""From the words of the command line to an open source."""

from pathlib import Path
from typing import Any

from media.publisher.sources.file import Decoding, FileSource
from media.publisher.sources.passthrough import Passthrough
from media.publisher.sources.pattern import TestPattern
from media.publisher.sources.port import Source, SourceRejected

TEST = "test"


def check_words(source: str, copy: bool) -> None:
    """Refuse what can be refused without opening anything."""
    scheme, separator, _ = source.partition("://")
    if separator and scheme == "srt":
        raise SourceRejected(
            "srt:// cannot be read: the media library here is built without SRT",
            "Let ffmpeg receive it and publish by WHIP (showcaller token create --publish CHANNEL gives "
            f"address and token): ffmpeg -i '{source}' -c:v libx264 -bf 0 -c:a libopus -ar 48000 -f whip "
            "-authorization TOKEN URL",
        )
    if separator:
        raise SourceRejected(
            f"{scheme}:// addresses cannot be published yet",
            "Give a file, or 'test' for the test pattern. A WHIP client such as OBS or ffmpeg can publish "
            "the address meanwhile: showcaller token create --publish CHANNEL",
        )
    if source == TEST and copy:
        raise SourceRejected("the test pattern is drawn, there is nothing to copy", "Leave out --copy.")


def open_source(settings: dict[str, Any]) -> Source:
    """`settings`: source, loop, copy, size ([width, height] or None), fps (or None), begin (show time, s)."""
    name, copy, size, fps = settings["source"], settings["copy"], settings["size"], settings["fps"]
    check_words(name, copy)
    if name == TEST:
        width, height = size or (1280, 720)
        return TestPattern(width, height, fps or 30.0)
    reading = Passthrough() if copy else Decoding(tuple(size) if size else None, fps)
    return FileSource(Path(name), settings["loop"], reading, begin=settings["begin"])
