"""Broadcast: what is on air, how it is sent, and what its viewers get."""

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical

from console.screens.broadcast import widgets
from console.screens.shared.frame import Panel, entry_lines
from console.screens.shared.page import Page
from console.screens.shared.view import View
from console.screens.shared.words import Line
from controlplane.wire.api import StreamDetail


class BroadcastScreen(Page):
    NAME = "broadcast"
    CSS_PATH = "broadcast.tcss"

    def __init__(self) -> None:
        super().__init__()
        self._chosen: str | None = None

    def body(self) -> ComposeResult:
        yield Panel("Channels", id="channels")
        yield Panel("Nothing on air", id="empty")
        with Horizontal(id="live"):
            yield Panel("Sending", id="sending")
            with Vertical(id="right"):
                yield Panel("What viewers get", id="viewers")
                yield Panel("Frames lost", id="health")
        yield Panel("Watch and publish", id="addresses")
        yield Panel("What happened", id="events")

    def channels(self) -> list[str]:
        view = self.view
        return sorted({*view.state.streams, *view.pending})

    @property
    def channel(self) -> str | None:
        """The one looked at: the one chosen, as long as there is one, or else the first."""
        channels = self.channels()
        return self._chosen if self._chosen in channels else next(iter(channels), None)

    @channel.setter
    def channel(self, channel: str | None) -> None:
        """Choose one, perhaps before it is heard of."""
        self._chosen = channel

    def show_body(self, view: View) -> None:
        channels = self.channels()
        stream = view.state.streams.get(self.channel or "")
        tabs, empty = self.query_one("#channels", Panel), self.query_one("#empty", Panel)
        tabs.display = len(channels) > 1
        tabs.show([self._channel_line(channels)])
        live = stream is not None
        self.query_one("#live").display = live
        self.query_one("#addresses").display = live
        self.query_one("#events").display = live
        empty.display = not live
        if stream is not None:
            self._show_stream(stream, view)
            return
        pending = view.pending.get(self.channel or "")
        if not view.state.ready:
            empty.title("Broadcast")
            error = f"✗ No permission: {view.refused}" if view.refused else "Loading…"
            empty.show([[(error, "$muted")]])
        elif pending is not None and self.channel is not None:
            empty.title(self.channel)
            empty.show(widgets.pending_lines(self.channel, pending, view.wall, empty.room))
        else:
            empty.title("Nothing on air")
            empty.show(widgets.empty_lines(view, empty.room))

    def _channel_line(self, channels: list[str]) -> Line:
        line: Line = []
        for channel in channels:
            line += [(f" {channel} ", "bold reverse" if channel == self.channel else "$muted"), (" ", "")]
        key, word = "bold $accent", "$muted"
        return [*line, ("  [", key), (" previous  ", word), ("]", key), (" next", word)]

    def _show_stream(self, stream: StreamDetail, view: View) -> None:
        sending, viewers = self.query_one("#sending", Panel), self.query_one("#viewers", Panel)
        health, addresses = self.query_one("#health", Panel), self.query_one("#addresses", Panel)
        sending.title(stream.channel)
        sending.show(widgets.sending_lines(stream, view, sending.room))
        viewers.show(widgets.viewer_lines(stream, view, viewers.room))
        health.show(widgets.health_lines(stream, view.marks.baseline(stream), view.now, health.room))
        addresses.show(widgets.watch_lines(stream, view, addresses.room))
        events = self.query_one("#events", Panel)
        rows = max(1, events.size.height - 2)
        events.show(entry_lines(view.journal_about([stream.channel]), events.room, rows))

    def turn(self, step: int) -> None:
        """The next broadcast, or the one before."""
        channels = self.channels()
        if self.channel in channels:
            self.channel = channels[(channels.index(self.channel) + step) % len(channels)]
            self.show(self.view)

    def chosen_channel(self) -> str | None:
        return self.channel
