"""The dialogs of the Broadcast screen: start one, stop one, a token for another program."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pydantic import ValidationError
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal
from textual.suggester import Suggester
from textual.widgets import Input, Label, Static

from console.commands import PublishWords
from console.core.stage import PublisherSpec
from console.screens.shared import figures
from console.screens.shared.dialog import CANCEL, Checkbox, Choice, Dialog, RadioButton, RadioSet
from console.screens.shared.words import Line

DEFAULT_CHANNEL = "main"


def complete(text: str) -> list[str]:
    """The paths that go on from this text, at most 50; a folder ends in a slash."""
    if not text:
        return []
    typed = os.path.expanduser(text)
    folder, _, start = typed.rpartition("/") if "/" in typed else ("", "", typed)
    place = Path(folder + "/" if "/" in typed else ".")
    try:
        with os.scandir(place) as entries:
            names = sorted(
                entry.name + ("/" if entry.is_dir() else "")
                for entry in entries
                if entry.name.startswith(start) and (start.startswith(".") or not entry.name.startswith("."))
            )
    except OSError:
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


def check_path(text: str) -> tuple[str, str]:
    """What stands behind a path: (error, "") or ("", a few words about the file)."""
    if not text.strip():
        return "choose a file: type its path (tab completes)", ""
    path = Path(text).expanduser()
    try:
        if path.is_dir():
            return f"{path} is a folder: go on typing (tab completes)", ""
        size = path.stat().st_size
        with path.open("rb") as file:
            file.read(1)
    except FileNotFoundError:
        return f"no file {path}", ""
    except OSError as error:
        return f"cannot read {path}: {(error.strerror or str(error)).lower()}", ""
    if size == 0:
        return f"{path} is empty", ""
    megabytes = f"{size / 1e6:,.1f} MB" if size >= 1e5 else f"{size:,} bytes"
    return "", f"{path.name}, {megabytes}"


class PathSuggester(Suggester):
    """The one way a path can go on, as far as it is the only one."""

    def __init__(self) -> None:
        super().__init__(use_cache=False, case_sensitive=True)

    async def get_suggestion(self, value: str) -> str | None:
        found = complete(value)
        if not found:
            return None
        common = shared_start(found)
        return common if len(common) > len(value) else found[0]


class PathInput(Input):
    """An input where tab completes a path as a shell does, and moves on when there is nothing to complete."""

    BINDINGS = [Binding("tab", "complete", show=False)]

    def action_complete(self) -> None:
        common = shared_start(complete(self.value))
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
        with Horizontal(classes="field"):
            yield Label("Source")
            with RadioSet(id="kind", compact=True):
                yield RadioButton("Test pattern", value=test, id="test", compact=True)
                yield RadioButton("File", value=not test, id="path", compact=True)
        with Horizontal(classes="field", id="file-row"):
            yield Label("File")
            yield PathInput(
                "" if test else words.source,
                id="file",
                compact=True,
                suggester=PathSuggester(),
                placeholder="/path/to/video.mp4",
            )
        yield Static("", id="about", markup=False)
        with Horizontal(classes="field"):
            yield Label("Channel")
            yield Input(words.channel, id="channel", compact=True, placeholder=DEFAULT_CHANNEL)
        with Horizontal(classes="field"):
            yield Label("Bitrate")
            yield Input(words.bitrate, id="bitrate", compact=True, placeholder="4.5M")
        with Horizontal(classes="field", id="how"):
            yield Label("")
            yield Checkbox("Loop", words.loop, id="loop", compact=True)
            yield Checkbox("Send as it is (H.264, no B-frames)", words.copy, id="copy", compact=True)

    def on_mount(self) -> None:
        super().on_mount()
        self._turn()
        self.wrong(self._wrong_at_first)

    @property
    def is_file(self) -> bool:
        return self.query_one("#path", RadioButton).value

    def _turn(self) -> None:
        """Show the fields that mean something for this kind of source."""
        for name in ("#file-row", "#about", "#how"):
            self.query_one(name).display = self.is_file
        copy = self.is_file and self.query_one("#copy", Checkbox).value
        self.query_one("#bitrate", Input).disabled = copy
        self._describe()

    def _describe(self) -> None:
        """Under the path: what was found there, or how it can go on."""
        value = self.query_one("#file", Input).value
        error, about = check_path(value)
        width = max(20, (self.query_one("#about").size.width or 60) - 2)
        line = f"● {about}" if about else error
        found = complete(value)
        if not about and len(found) > 1:
            names = "  ".join(
                item.rstrip("/").rpartition("/")[2] + ("/" if item.endswith("/") else "") for item in found
            )
            line = f"{len(found)}: {names}"
        self.query_one("#about", Static).update(figures.clip(line, width))

    def on_radio_set_changed(self, event: RadioSet.Changed) -> None:
        event.stop()
        self._turn()
        if self.is_file:  # the next thing to say is which file
            self.call_after_refresh(self.query_one("#file", Input).focus)

    def on_checkbox_changed(self, event: Checkbox.Changed) -> None:
        event.stop()
        self._turn()

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        self.wrong("")
        if event.input.id == "file":
            self._describe()

    def chosen(self, choice: str) -> None:
        path = self.query_one("#file", Input).value
        words = PublishWords(
            source=path if self.is_file else "test",
            channel=self.query_one("#channel", Input).value.strip() or DEFAULT_CHANNEL,
            bitrate=self.query_one("#bitrate", Input).value,
            loop=self.is_file and self.query_one("#loop", Checkbox).value,
            copy=self.is_file and self.query_one("#copy", Checkbox).value,
        )
        if self.is_file and path == "test":
            words = replace(words, source="./test")  # a file that is called so
        try:
            spec = make_spec(words, self._on_air)
        except FieldError as error:
            self.wrong(str(error))
            self.query_one(f"#{error.field}", Input).focus()
            return
        self.dismiss(spec)


class FieldError(ValueError):
    """A field cannot be meant so; the text says what to do, `field` which one it is."""

    def __init__(self, field: str, text: str) -> None:
        super().__init__(text)
        self.field = field


def make_spec(words: PublishWords, on_air: frozenset[str]) -> PublisherSpec:
    """What the words mean, checked as far as it can be without opening the media. Raises FieldError."""
    source, rate, test = words.source, None, words.source == "test"
    if not test:
        error, _ = check_path(source)
        if error:
            raise FieldError("file", error)
        source = str(Path(source).expanduser().absolute())
    if words.channel in on_air:
        raise FieldError("channel", f"{words.channel} is on air already: choose another channel")
    copy = words.copy and not test
    if not copy:
        try:
            rate = figures.parse_rate(words.bitrate)
        except ValueError as error_:
            raise FieldError("bitrate", str(error_)) from None
    try:
        return PublisherSpec(
            channel=words.channel,
            source=source,
            bitrate_bps=rate,
            loop=words.loop and not test,
            copy_mode=copy,
        )
    except ValidationError:
        rule = "a channel is small letters, digits, - and _, and starts with a letter or digit"
        raise FieldError("channel", rule) from None


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
        [("until   ", "$muted"), (expires, "")],
        [],
        [("It is shown this once. Whoever has it can publish to this channel.", "$muted")],
    ]
