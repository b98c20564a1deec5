"""The dialogs of the Broadcast screen: start one, stop one, a token for another program."""

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import ValidationError
from textual import work
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal
from textual.suggester import Suggester
from textual.widgets import Input, Label, Static

from console.commands import PublishWords
from console.core.errors import ConsoleError, UsageError
from console.core.media_files import IsFolder, NoMediaFile, aside, expand, media_file
from console.core.stage import PublisherSpec
from console.core.units import CHANNEL_RULE, parse_bitrate
from console.screens.shared import figures
from console.screens.shared.dialog import CANCEL, Checkbox, Choice, Dialog, Field, OneOf
from console.screens.shared.words import Line

DEFAULT_CHANNEL = "main"
PATIENCE_S = 0.5  # how long a key waits for the disk; what comes later is shown when it comes
SLOW_DISK = "… waiting for the disk"


def complete(text: str) -> list[str]:
    """The paths that go on from this text, at most 50; a folder ends in a slash."""
    if not text:
        return []
    typed = expand(text)
    folder, _, start = typed.rpartition("/") if "/" in typed else ("", "", typed)
    place = Path(folder + "/" if "/" in typed else ".")
    try:
        with os.scandir(place) as entries:
            names = sorted(
                entry.name + ("/" if entry.is_dir() else "")
                for entry in entries
                if entry.name.startswith(start) and (start.startswith(".") or not entry.name.startswith("."))
            )
    except (OSError, ValueError):  # a zero byte in the name is a ValueError
        return []
    written = text[: len(text) - len(start)] if start else text
    return [written + name for name in names[:50]]


def shared_start(texts: Sequence[str]) -> str:
    """The longest beginning that all of them share."""
    if not texts:
        return ""
    low, high = min(texts), max(texts)
    length = next(
        (i for i, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), min(len(low), len(high))
    )
    return low[:length]


@dataclass(frozen=True, slots=True)
class Seen:
    """What was found behind the text of the path."""

    about: str  # the file in a few words; empty when it cannot be broadcast
    error: str  # why not
    short: str  # the same of the bare name
    goes_on: list[str]  # how the path can go on, see complete()


def look(text: str) -> Seen:
    """Look at a path; may wait for the disk."""
    found = complete(text)
    if not text.strip():
        hint = "choose a file: type its path (tab completes)"
        return Seen("", hint, hint, found)
    try:
        file = media_file(text)
    except IsFolder as error:
        hint = ": go on typing (tab completes)"
        return Seen("", error.what + hint, error.short + hint, found)
    except NoMediaFile as error:
        return Seen("", error.what, error.short, found)
    size = f"{file.size / 1e6:,.1f} MB" if file.size >= 1e5 else f"{file.size:,} bytes"
    return Seen(f"{file.path.name}, {size}", "", "", found)


def seen_line(seen: Seen, width: int) -> str:
    """Under the path: what was found there, or how it can go on."""
    if seen.about:
        return f"● {seen.about}"
    if len(seen.goes_on) < 2:
        return seen.error if len(seen.error) <= width else seen.short
    names = "  ".join(
        item.rstrip("/").rpartition("/")[2] + ("/" if item.endswith("/") else "") for item in seen.goes_on
    )
    return f"{len(seen.goes_on)}: {names}"


class PathSuggester(Suggester):
    """The one way a path can go on, as far as it is the only one."""

    def __init__(self) -> None:
        super().__init__(use_cache=False, case_sensitive=True)

    async def get_suggestion(self, value: str) -> str | None:
        found = await aside(complete, value)
        if not found:
            return None
        common = shared_start(found)
        return common if len(common) > len(value) else found[0]


class PathField(Field):
    """A field where tab completes a path as a shell does, and moves on when there is nothing to complete."""

    BINDINGS = [Binding("tab", "complete", show=False)]

    async def action_complete(self) -> None:
        try:
            common = shared_start(await asyncio.wait_for(aside(complete, self.value), PATIENCE_S))
        except TimeoutError:  # a disk that does not answer: what is typed stays as it is
            return
        if len(common) > len(self.value):
            self.value = common
            self.cursor_position = len(common)
        else:
            self.screen.focus_next()


class StartDialog(Dialog[PublisherSpec]):
    """What to broadcast, and how. The result is a PublisherSpec, checked as far as can be here."""

    def __init__(self, words: PublishWords, on_air: frozenset[str], wrong: str = "") -> None:
        super().__init__(
            "Start a broadcast",
            [],
            [CANCEL, Choice("start", "Start")],
            focus="file" if words.source != "test" else "kind",
        )
        self._words, self._on_air, self._wrong_at_first = words, on_air, wrong

    def fields(self) -> ComposeResult:
        words, test = self._words, self._words.source == "test"
        with Horizontal(classes="field -grows"):
            yield Label("Source")
            yield OneOf(("Test pattern", "File"), 0 if test else 1, id="kind")
        with Horizontal(classes="field", id="file-row"):
            yield Label("File")
            yield PathField(
                "" if test else words.source,
                id="file",
                suggester=PathSuggester(),
                placeholder="/path/to/video.mp4",
            )
        yield Static("", id="about", markup=False)
        with Horizontal(classes="field"):
            yield Label("Channel")
            yield Field(words.channel, id="channel", placeholder=DEFAULT_CHANNEL)
        with Horizontal(classes="field"):
            yield Label("Bitrate")
            yield Field(words.bitrate, id="bitrate", placeholder="4.5M")
        with Horizontal(classes="field", id="how"):
            yield Label("")
            yield Checkbox("Loop", words.loop, id="loop", compact=True)
            yield Checkbox("Send as it is (H.264, no B-frames)", words.copy, id="copy", compact=True)

    def on_mount(self) -> None:
        self._show_fields()
        super().on_mount()
        # Watched, not heard of: the next key already meets the fields as they are then.
        self.watch(self.query_one("#kind", OneOf), "index", self._kind_chosen, init=False)
        self.watch(self.query_one("#copy", Checkbox), "value", self._show_fields, init=False)
        self.wrong(self._wrong_at_first)

    @property
    def is_file(self) -> bool:
        return self.query_one("#kind", OneOf).index == 1

    def _kind_chosen(self) -> None:
        self._show_fields()
        if self.is_file:  # the next thing to say is which file
            self.set_focus(self.query_one("#file"))

    def _show_fields(self) -> None:
        """Show the fields that mean something for this kind of source."""
        for name in ("#file-row", "#about", "#how"):
            self.query_one(name).display = self.is_file
        copy = self.is_file and self.query_one("#copy", Checkbox).value
        self.query_one("#bitrate", Field).disabled = copy
        self._describe()

    @work(exclusive=True, group="look", exit_on_error=False)
    async def _describe(self) -> None:
        """Say what is behind the path. The newest text wins: an older look is forgotten."""
        text = self.query_one("#file", Field).value
        looking = asyncio.ensure_future(aside(look, text))
        await asyncio.wait({looking}, timeout=PATIENCE_S)
        if not looking.done():
            self._say_about(SLOW_DISK)
        self._say_about(seen_line(await looking, self._about_room))

    @property
    def _about_room(self) -> int:
        return max(20, self.query_one("#about").content_size.width or 58)

    def _say_about(self, line: str) -> None:
        self.query_one("#about", Static).update(figures.clip(line, self._about_room))

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        self.wrong("")
        if event.input.id == "file":
            self._describe()

    async def chosen(self, choice: str) -> None:
        path = self.query_one("#file", Field).value
        words = PublishWords(
            source=path if self.is_file else "test",
            channel=self.query_one("#channel", Field).value.strip() or DEFAULT_CHANNEL,
            bitrate=self.query_one("#bitrate", Field).value,
            loop=self.is_file and self.query_one("#loop", Checkbox).value,
            copy=self.is_file and self.query_one("#copy", Checkbox).value,
        )
        if self.is_file and path == "test":
            words = replace(words, source="./test")  # a file that is called so
        checking = asyncio.ensure_future(aside(make_spec, words, self._on_air))
        await asyncio.wait({checking}, timeout=PATIENCE_S)  # the next key meets what comes of this one
        if checking.done():
            self._checked(checking)
        else:  # ... but does not wait for a disk that is gone
            self._say_about(SLOW_DISK)
            self._wait_for(checking)

    @work(exclusive=True, group="check", exit_on_error=False)
    async def _wait_for(self, checking: "asyncio.Future[PublisherSpec]") -> None:
        await asyncio.wait({checking})
        self._checked(checking)

    def _checked(self, checking: "asyncio.Future[PublisherSpec]") -> None:
        """Dismiss with what the words mean, or say what is wrong with them."""
        try:
            spec = checking.result()
        except FieldError as error:
            self.wrong(str(error))
            self.set_focus(self.query_one(f"#{error.field}"))
        else:
            self.dismiss(spec)


class FieldError(ConsoleError):
    """A field cannot be meant so; the text says what to do, `field` which one it is."""

    def __init__(self, field: str, text: str) -> None:
        super().__init__(text)
        self.field = field

    def __str__(self) -> str:
        return self.what


def make_spec(words: PublishWords, on_air: frozenset[str]) -> PublisherSpec:
    """What the words mean, checked as far as it can be without opening the media. Raises FieldError; may wait
    for the disk the file is on."""
    source, rate, test = words.source, None, words.source == "test"
    if not test:
        if not source.strip():
            raise FieldError("file", look(source).error)
        try:
            source = str(media_file(source).path)
        except NoMediaFile as error:
            raise FieldError("file", error.what) from None
    if words.channel in on_air:
        raise FieldError("channel", f"{words.channel} is on air already: choose another channel")
    copy = words.copy and not test
    if not copy:
        try:
            rate = parse_bitrate(words.bitrate)
        except UsageError as error:
            raise FieldError("bitrate", str(error)) from None
    try:
        return PublisherSpec(
            channel=words.channel,
            source=source,
            bitrate_bps=rate,
            loop=words.loop and not test,
            copy_mode=copy,
        )
    except ValidationError:
        raise FieldError("channel", f"{CHANNEL_RULE}.") from None


def words_of(spec: PublisherSpec) -> PublishWords:
    """A spec as the fields of the dialog: to offer it again."""
    rate = "4.5M" if spec.bitrate_bps is None else f"{spec.bitrate_bps / 1e6:g}M"
    return PublishWords(spec.source, spec.channel, rate, spec.loop, spec.copy_mode)


def stop_lines(channel: str, viewers: int) -> list[Line]:
    """What stopping does and to whom."""
    who = figures.plural(viewers, "viewer")
    then = (
        "Their picture ends; their pages wait, and start by themselves when it is on air again."
        if viewers
        else "Nobody loses a picture."
    )
    return [
        [(f"{channel}: {who} watching now. ", "bold"), (then, "")],
        [("The publisher is told to stop, and its token is not accepted any more.", "")],
    ]


def token_lines(whip: str, token: str, expires: str) -> list[Line]:
    """What another program needs to publish."""
    return [
        [("In OBS: Settings, Stream, Service: WHIP. Any WHIP client takes the same two.", "")],
        [],
        [("server  ", "$muted"), (whip, "bold $second")],
        [("token   ", "$muted"), (token, "bold")],
        [("until   ", "$muted"), (figures.date(expires), "")],
        [],
        [("It is shown this once. Whoever has it can publish to this channel.", "$muted")],
    ]
