"""The `:` command line and the palette: two ways to name an action of the registry instead of its key."""

import shlex
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial

from textual.command import DiscoveryHit, Hit, Hits, Provider

from console.actions import ACTIONS, Action, key_name
from console.messages import Act

WORDS: dict[str, Action] = {word: action for action in ACTIONS for word in action.words}


class CommandError(ValueError):
    """The line cannot be meant; the text says what to enter instead."""


@dataclass(frozen=True, slots=True)
class Invocation:
    action: Action
    argument: str


def parse(line: str) -> Invocation:
    """A line after `:`. A number chooses a page; a word may be cut short while it stays the only one."""
    word, _, rest = line.strip().lstrip(":").strip().partition(" ")
    if not word:
        raise CommandError("nothing entered: a command is a word like `drain edge-2`; ? lists them")
    if word.isdecimal():
        for action in ACTIONS:
            if word in action.keys:
                return Invocation(action, "")
    found = WORDS.get(word.lower())
    if found is None:
        starts = {WORDS[name].id: WORDS[name] for name in WORDS if name.startswith(word.lower())}
        if len(starts) != 1:
            near = get_close_matches(word.lower(), WORDS, 1)
            choice = sorted(starts) or near
            raise CommandError(
                f"no command {word!r}" + (f": {' or '.join(choice)}?" if choice else ": ? lists them")
            )
        found = next(iter(starts.values()))
    return Invocation(found, rest.strip())


def suggestions() -> list[str]:
    """What the command line completes."""
    return sorted(WORDS)


@dataclass(frozen=True, slots=True)
class PublishWords:
    source: str = "test"
    channel: str = "main"
    bitrate: str = "4.5M"
    loop: bool = False
    copy: bool = False


def parse_publish(argument: str) -> PublishWords:
    """`SOURCE [CHANNEL [BITRATE]] [loop] [copy]`, quotes around a path with spaces."""
    try:
        parts = shlex.split(argument)
    except ValueError as error:
        raise CommandError("a quotation mark is not closed") from error
    flags = {part.lower() for part in parts[1:] if part.lower() in ("loop", "copy")}
    plain = [part for number, part in enumerate(parts) if number == 0 or part.lower() not in ("loop", "copy")]
    if len(plain) > 3:
        raise CommandError("too many words: publish SOURCE [CHANNEL [BITRATE]] [loop] [copy]")
    values = dict(zip(("source", "channel", "bitrate"), plain, strict=False))
    return PublishWords(**values, loop="loop" in flags, copy="copy" in flags)


class Everything(Provider):
    """The palette: every action, those of the present page first, each with its key and plain command."""

    def _ordered(self) -> list[Action]:
        page = getattr(self.screen, "NAME", "")
        return sorted((a for a in ACTIONS if a.id != "palette"), key=lambda a: page not in a.pages)

    def _help(self, action: Action) -> str:
        keys = ", ".join(key_name(key) for key in action.keys)
        return f"key {keys}" + (f"   {action.command}" if action.command else "")

    async def discover(self) -> Hits:
        for action in self._ordered():
            yield DiscoveryHit(action.title, partial(self._act, action), help=self._help(action))

    async def search(self, query: str) -> Hits:
        matcher = self.matcher(query)
        for action in self._ordered():
            text = f"{action.title}"
            score = max(matcher.match(text), matcher.match(" ".join(action.words)) * 0.9)
            if score > 0:
                yield Hit(
                    score,
                    matcher.highlight(text),
                    partial(self._act, action),
                    text=text,
                    help=self._help(action),
                )

    def _act(self, action: Action) -> None:
        self.app.post_message(Act(action.id))
