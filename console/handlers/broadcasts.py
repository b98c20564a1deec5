"""Broadcasts: start one, stop one, its page, a token for another program."""

import contextlib
import os
import sys
import time
from collections.abc import Container
from itertools import count

from textual import work

from console import commands
from console.core.errors import ConsoleError
from console.core.media_files import aside
from console.core.stage import PublisherSpec, start_publisher
from console.handlers.base import Handlers
from console.messages import (
    PublishFailed,
    PublishStarted,
)
from console.screens.broadcast import dialogs
from console.screens.broadcast.screen import BroadcastScreen
from console.screens.shared import figures
from console.screens.shared.dialog import CANCEL, Ask, Choice, Tell
from console.screens.shared.view import Pending
from controlplane.wire.api import StopView, TokenView

LONGEST_CHANNEL = 63


class BroadcastHandlers(Handlers):
    def do_start(self, argument: str) -> None:
        if self.options.api:
            self.say(
                "This stage runs elsewhere: publish to it with `showcaller publish SOURCE --channel NAME`",
                "warning",
            )
            return
        on_air = frozenset({*self.look().state.streams, *(c for c, p in self.pending.items() if not p.error)})
        if argument:
            self._start_words(argument, on_air)
            return
        words = self._words_again()
        if words.channel in on_air:
            free = free_channel(words.channel, on_air)
            words = commands.PublishWords(words.source, free, words.bitrate, words.loop, words.copy)
        self.ask(dialogs.StartDialog(words, on_air), self._start)

    @work(group="start", exit_on_error=False)
    async def _start_words(self, argument: str, on_air: frozenset[str]) -> None:
        """Start what a line means; in a worker, for the disk its file is on may be slow."""
        try:
            spec = await aside(dialogs.make_spec, commands.parse_publish(argument), on_air)
        except (commands.CommandError, dialogs.FieldError) as error:
            self.say(str(error), "error", "Not started")
        else:
            self._start(spec)

    def _words_again(self) -> commands.PublishWords:
        """What to offer: the values of the broadcast that is looked at and failed, of the one that has ended
        just now, or the last ones."""
        page = self.page
        failed = self.pending.get((page.chosen_channel() if page is not None else None) or "")
        if failed is not None and failed.error:
            return dialogs.words_of(failed.spec)
        ended = self.look().last_ended()
        if ended is not None and isinstance(page, BroadcastScreen) and page.channel is None:
            return self.started.get(ended.subject, self.last_words)
        return self.last_words

    def _start(self, spec: PublisherSpec) -> None:
        self.last_words = self.started[spec.channel] = dialogs.words_of(spec)
        self.pending[spec.channel] = Pending(spec, time.time())
        self.go("broadcast")
        if isinstance(self.page, BroadcastScreen):
            self.page.channel = spec.channel
        self._publish(spec)

    @work(group="publish", exit_on_error=False)
    async def _publish(self, spec: PublisherSpec) -> None:
        try:
            await start_publisher(self.options.stage.home, self._client(), spec)
        except ConsoleError as error:
            self.post_message(PublishFailed(spec.channel, error))
        else:
            self.post_message(PublishStarted(spec.channel))

    def on_publish_started(self, message: PublishStarted) -> None:
        self.pending.pop(message.channel, None)
        self.say(f"{message.channel} is on air")

    def on_publish_failed(self, message: PublishFailed) -> None:
        known = self.pending.get(message.channel)
        if known is not None:
            self.pending[message.channel] = Pending(known.spec, known.since, str(message.error))
        self.say(str(message.error), "error", f"{message.channel} did not come on air")

    def do_stop(self, argument: str) -> None:
        channel, view = self._channel(argument), self.look()
        if channel is None:
            return
        stream = view.state.streams.get(channel)
        if stream is None:
            failed = self.pending.get(channel)
            if failed is not None and failed.error:
                self.pending.pop(channel)
            else:
                self.say(f"{channel} is not on air", "warning")
            return

        def told(ended: StopView) -> str:
            return f"{ended.channel} has ended; {figures.plural(ended.viewers, 'viewer')} were watching"

        def stop(choice: str) -> None:
            self.perform(self._client().stop_stream(channel), told)

        choices = [CANCEL, Choice("stop", "Stop", "danger")]
        self.ask(Ask(f"Stop {channel}", dialogs.stop_lines(channel, stream.viewers), choices), stop)

    def do_token(self, argument: str) -> None:
        channel = argument.strip() or (self.page.chosen_channel() if self.page is not None else None)

        def show(view: TokenView) -> str:
            self.push_screen(
                Tell("A token to publish with", dialogs.token_lines(view.whip, view.token, view.expires))
            )
            self.copy_to_clipboard(view.token)
            return "Token made, and copied where the terminal allows it"

        self.perform(self._client().create_token(channel or dialogs.DEFAULT_CHANNEL), show)

    def do_open(self, argument: str) -> None:
        address = self._watch(argument)
        if address is None:
            return
        if not has_browser():
            self.copy_to_clipboard(address)
            self.say(f"No browser here: copied {address}. Open it on a machine with one")
            return
        self.open_url(address)
        self.say(f"Opened {address}")

    def do_copy(self, argument: str) -> None:
        address = self._watch(argument)
        if address is not None:
            self.copy_to_clipboard(address)
            self.say(f"Copied {address} (where the terminal allows it)")

    def _watch(self, argument: str) -> str | None:
        channel = self._channel(argument)
        if channel is None:
            return None
        view = self.look()
        stream = view.state.streams.get(channel)
        return stream.watch if stream is not None else f"{view.state.watch.rstrip('/')}/{channel}"

    def _channel(self, name: str) -> str | None:
        channel = name.strip() or (self.page.chosen_channel() if self.page is not None else None)
        if not channel:
            several = len(self.look().state.streams) > 1
            self.say(
                "Which one? Choose it on the Broadcast page (3), or name it"
                if several
                else "Nothing is on air: b starts a broadcast",
                "warning",
            )
        return channel or None

    def do_next_channel(self, argument: str) -> None:
        if isinstance(self.page, BroadcastScreen):
            self.page.turn(1)

    def do_last_channel(self, argument: str) -> None:
        if isinstance(self.page, BroadcastScreen):
            self.page.turn(-1)

    def do_reset(self, argument: str) -> None:
        if self.page is not None and (channel := self.page.chosen_channel()):
            self.reset_counters(channel)


def free_channel(channel: str, taken: Container[str]) -> str:
    """A name like this one that is not on air: main-2 after main, main-3 after main-2."""
    stem, _, number = channel.rpartition("-")
    if not (stem and number.isdecimal() and number.isascii()):
        stem, number = channel, "1"
    names = (f"{stem[: LONGEST_CHANNEL - 1 - len(str(n))]}-{n}" for n in count(int(number) + 1))
    return next(name for name in names if name not in taken)


def has_browser() -> bool:
    """Whether a browser with a window can be opened: a text browser would fight for the terminal."""
    if sys.platform in ("darwin", "win32"):
        return True
    if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return False
    import webbrowser

    with contextlib.suppress(webbrowser.Error):
        return webbrowser.get() is not None
    return False
