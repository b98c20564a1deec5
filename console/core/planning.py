"""An event as it is typed into a form, and what the stream manager is asked for by it."""

from dataclasses import dataclass, fields
from datetime import datetime

from console.core.errors import UsageError
from console.core.units import parse_duration
from console.core.when import zone_of
from controlplane.wire.events import EventChanges, EventRequest, EventView

LONGEST_S = 14 * 86_400.0


@dataclass(frozen=True, slots=True)
class EventWords:
    """What stands in the fields."""

    title: str = ""
    start: str = ""
    end: str = "2h"
    channel: str = "main"
    expected: str = "0"
    zone: str = "UTC"


NAMES = tuple(field.name for field in fields(EventWords))


def words_of(event: EventView) -> EventWords:
    """An event as it stands in the fields."""
    there = zone_of(event.zone)

    def wall(at: float) -> str:
        local = datetime.fromtimestamp(at, there)
        once = local.utcoffset() == local.replace(fold=1 - local.fold).utcoffset()
        shown = local.replace(tzinfo=None) if once else local  # what comes twice is told apart by its offset
        return shown.isoformat(timespec="seconds" if local.second else "minutes")

    return EventWords(
        title=event.title,
        start=wall(event.starts_at),
        end=wall(event.ends_at),
        channel=event.channel,
        expected=str(event.expected),
        zone=event.zone,
    )


class WrongField(Exception):
    def __init__(self, field: str, text: str) -> None:
        super().__init__(text)
        self.field = field


def changes(words: EventWords, before: EventWords) -> EventChanges:
    """What differs. Raises WrongField."""
    differs = {
        name: value.strip()
        for name in NAMES
        if (value := getattr(words, name)).strip() != getattr(before, name)
    }
    said: dict[str, object] = dict(differs)
    if "expected" in differs:
        said["expected"] = _people(differs["expected"])
    if "end" in differs:
        del said["end"]
        said |= _end(differs["end"])
    return EventChanges.model_validate(said)


def request(words: EventWords) -> EventRequest:
    """Raises WrongField."""
    return EventRequest.model_validate(
        {
            "title": words.title,
            "start": words.start.strip(),
            "channel": words.channel.strip(),
            "expected": _people(words.expected),
            "zone": words.zone.strip(),
            **_end(words.end),
        }
    )


def _people(text: str) -> int:
    text = text.replace(",", "").strip()
    if not (text.isascii() and text.isdecimal() and len(text) <= 9):
        raise WrongField("expected", f"{text!r} is no number of people")
    return int(text)


def _end(text: str) -> dict[str, object]:
    """A moment, or how long it lasts."""
    text = text.strip()
    if not text:
        return {}
    try:
        return {"lasts_s": parse_duration(text, least_s=1.0, most_s=LONGEST_S)}
    except UsageError:
        return {"end": text}
