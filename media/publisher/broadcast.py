"""One broadcast, from the first look at the source to the last report.

Three things run side by side until one of them ends the show:

- the encoder, restarted when it dies; its clock (show time 0) is kept, so the show goes on where it would be;
- the connection, made again whenever it is lost, for as long as it takes; the encoder does not notice;
- the reporter.

The state is PublishState: starting -> connecting -> live <-> reconnecting -> stopping -> ended, or failed
before anything was live. What can end it: the source is over, a signal, the stream manager (an order, or a
token that is no longer taken), or an error at the start.
"""

import asyncio
import contextlib
import json
import time
from dataclasses import dataclass
from typing import Any

import structlog

from controlplane.wire import processes
from controlplane.wire.publishing import SOURCE_OVER, PublisherOrder, PublishState
from media.publisher import whip
from media.publisher.encoder.show import EncoderFigures
from media.publisher.errors import PublishError, Refused, TimedOut
from media.publisher.figures import Figures
from media.publisher.link import EncoderLink
from media.publisher.options import Options
from media.publisher.peer import Peer
from media.publisher.pipe import Item, Kind, Order
from media.publisher.rate import Rate
from media.publisher.reporter import Reporter
from media.publisher.sources.port import SourceInfo

_OPEN_S = 30.0  # a source may lie on a slow disk
_FIRST_S, _AGAIN_S = 8.0, 5.0  # time for a server to answer, and again for media to reach it
_BACKOFF_S = (0.25, 2.0)
_STEADY_S = 5.0  # a connection that lasted this long was a good one
_BUSY_S = 10.0  # how long a server that has no room yet (503) is asked at the start
_CHECK_S = 0.25
_ENCODER_START_S = 0.4  # what a restarted encoder needs until its first picture, about
_DEATHS, _DEATHS_S = 5, 10.0  # encoders that died in this time: a sixth will die too

log = structlog.get_logger()


@dataclass(frozen=True)
class Ending:
    reason: str
    error: PublishError | None = None
    told: bool = False  # somebody else ended it: say so
    why: str = ""  # for the stream manager, see wire.publishing


class Broadcast:
    def __init__(self, options: Options) -> None:
        self._options = options
        self._figures = Figures(options, target_bps=None if options.copy else options.bitrate)
        self._rate = Rate(options.bitrate)
        self._ending: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()
        self._source: asyncio.Future[SourceInfo] = asyncio.get_running_loop().create_future()
        self._zero: float | None = None  # monotonic time of show time 0
        self._link: EncoderLink | None = None
        self._peer: Peer | None = None
        self._published: whip.Published | None = None
        self._again = asyncio.Event()  # publish again, now
        self._closing: set[asyncio.Task[None]] = set()
        self._http = whip.http_client(options.whip, options.token, options.report or "")
        self._reporter = Reporter(self._figures, self._http, self._obey)

    def end(self, reason: str) -> None:
        """A signal: end cleanly."""
        self._finish(Ending(reason))

    async def run(self) -> int:
        """The exit code. Raises PublishError when the broadcast could not be."""
        work = [
            asyncio.create_task(self._encode(), name="encoder"),
            asyncio.create_task(self._stay_connected(), name="connection"),
            asyncio.create_task(self._adapt(), name="rate"),
        ]
        reporting = asyncio.create_task(self._reporter.run(), name="reporter")
        for task in (*work, reporting):
            task.add_done_callback(self._died)
        try:
            ending = await asyncio.shield(self._ending)
        except Exception:  # a bug: the origin and the encoder hear of the end all the same
            await self._close(Ending("an error in the publisher"), work)
            raise
        finally:
            reporting.cancel()
        await self._close(ending, work)
        if ending.error is not None:
            raise ending.error
        return 0

    # How it ends.

    def _finish(self, ending: Ending) -> None:
        if not self._ending.done():
            self._ending.set_result(ending)

    def _died(self, task: asyncio.Task[Any]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None and not self._ending.done():
            self._ending.set_exception(error)  # a bug: let it be seen

    async def _close(self, ending: Ending, work: list[asyncio.Task[None]]) -> None:
        failed = ending.error is not None
        self._figures.message = ending.reason
        self._set_state(PublishState.FAILED if failed else PublishState.STOPPING)
        log.info("ending", reason=ending.reason)
        encoder, *others = work
        for task in others:
            task.cancel()
        if not failed and self._peer is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._drain(self._peer), 0.5)
        goodbyes = [self._close_peer(self._peer)] if self._peer is not None else []
        if self._published is not None:
            goodbyes.append(whip.end(self._http, self._published, 1.0, ending.why))
        if self._link is not None:
            goodbyes.append(self._link.close())  # the encoder task goes on reading until it is gone
        await asyncio.gather(*goodbyes, return_exceptions=True)
        encoder.cancel()
        self._peer = None
        self._set_state(PublishState.FAILED if failed else PublishState.ENDED)
        if self._published is not None:
            await self._reporter.post(0.5)
        self._reporter.print_line()
        if ending.told:
            log.warning("the broadcast was ended", say=f"{self._options.channel}: {ending.reason}.")
        await asyncio.wait([encoder], timeout=3.0)  # it may be in the middle of its start
        await asyncio.wait([*work, *self._closing], timeout=0.5)
        await self._http.aclose()

    @staticmethod
    async def _drain(peer: Peer) -> None:
        await peer.drained()
        await asyncio.sleep(0.1)  # the last packets are on their way

    @staticmethod
    async def _close_peer(peer: Peer) -> None:
        await peer.close()

    def _set_state(self, state: PublishState) -> None:
        if self._figures.state is not state:
            log.info("state", state=state.value, was=self._figures.state.value)
            self._figures.state = state
            self._reporter.report_soon()

    # The encoder.

    async def _encode(self) -> None:
        deaths: list[float] = []
        while True:
            over = await self._run_encoder()
            if over or self._ending.done():
                return
            now = time.monotonic()
            deaths = [death for death in deaths if now - death < _DEATHS_S] + [now]
            if len(deaths) > _DEATHS:
                error = Refused(
                    "the encoder keeps failing", "See what it says: showcaller logs publisher-CHANNEL"
                )
                self._finish(Ending(error.what, error))
                return
            log.warning("the encoder has died and is started again", deaths=len(deaths))
            self._figures.new_encoder()
            await asyncio.sleep(0.2 * (len(deaths) - 1))

    async def _run_encoder(self) -> bool:
        """One life of an encoder process. True when there is to be no other."""
        options = self._options
        begin = 0.0 if self._zero is None else time.monotonic() - self._zero + _ENCODER_START_S
        link = await EncoderLink.start(
            {
                "source": options.source,
                "loop": options.loop,
                "copy": options.copy,
                "codec": options.codec,
                "size": options.size,
                "fps": options.fps,
                "bitrate": options.bitrate,
                "begin": max(0.0, begin),
            }
        )
        self._link = link
        record = f"encoder-{options.channel}"
        if options.run_dir is not None:
            processes.record_self_or_child(options.run_dir / "processes", record, "encoder", link.pid)
        log.info("encoder started", pid=link.pid)
        over = False
        try:
            async for item in link.items():
                over = self._take(item, link) or over
        finally:
            if options.run_dir is not None:
                processes.remove(options.run_dir / "processes", record)
        code = await link.wait()
        self._link = None
        log.info("encoder ended", exit=code)
        return over

    def _take(self, item: Item, link: EncoderLink) -> bool:
        """One item of the encoder's. True when it was the last there will ever be."""
        match item.kind:
            case Kind.VIDEO | Kind.SOUND:
                if self._peer is not None:
                    self._peer.send(item, video=item.kind is Kind.VIDEO)
            case Kind.FIGURES:
                self._figures.encoder = EncoderFigures(**json.loads(item.payload))
            case Kind.READY:
                info = SourceInfo(**json.loads(item.payload))
                if not self._source.done():
                    self._figures.info = info
                    self._source.set_result(info)
                    if info.note:
                        log.warning(info.note)
                if self._rate.target_bps < self._rate.asked_bps:
                    link.order(Order.BITRATE, self._rate.target_bps)
                if self._zero is not None:
                    link.order(Order.GO, self._zero)
            case Kind.REJECTED:
                words = json.loads(item.payload)
                error = Refused(words["what"], words["next"])
                self._finish(Ending(error.what, error))
                return True
            case Kind.END:
                self._finish(Ending("the source is over", why=SOURCE_OVER))
                return True
        return False

    def _order(self, order: Order, value: float = 0.0) -> None:
        if self._link is not None:
            self._link.order(order, value)

    # The connection.

    async def _stay_connected(self) -> None:
        try:
            info = await asyncio.wait_for(asyncio.shield(self._source), _OPEN_S)
        except TimeoutError:
            error = TimedOut(
                f"{self._options.source} could not be opened within {_OPEN_S:g} s", "Check its disk."
            )
            self._finish(Ending(error.what, error))
            return
        self._set_state(PublishState.CONNECTING)
        began = time.monotonic()
        wait = _BACKOFF_S[0]
        unsaid = ""  # why it publishes again: told once the server has not said that it may not
        leaving: Peer | None = None  # still sends while the connection that takes its place is made
        while True:
            self._again.clear()
            try:
                peer, published = await self._connect(info, _FIRST_S if self._zero is None else _AGAIN_S)
            except Exception as error:
                if not isinstance(error, PublishError):
                    if self._zero is None:
                        raise  # a bug
                    log.exception("connecting failed")
                    error = Refused(f"connecting failed ({error!r})", "See the log.")
                if self._give_up(error, time.monotonic() - began):
                    return
                unsaid = self._say_again(unsaid)
                log.info("not connected", error=str(error), again_s=wait)
                self._figures.message = error.what
                await self._sleep(wait)
                wait = min(2 * wait, _BACKOFF_S[1])
                continue
            since = time.monotonic()
            self._go_live(peer, published)
            unsaid = self._say_again(unsaid)
            if leaving is not None:
                self._retire(leaving)
            why = await self._on_air(peer)
            self._set_state(PublishState.RECONNECTING)
            self._figures.message = why
            log.info("the connection is over", reason=why)
            unsaid = why
            leaving = peer
            if peer.lost.done():
                self._retire(peer)
                leaving = None
            if time.monotonic() - since >= _STEADY_S:
                wait = _BACKOFF_S[0]
            else:
                await self._sleep(wait)
                wait = min(2 * wait, _BACKOFF_S[1])

    @staticmethod
    def _say_again(why: str) -> str:
        """Tell people, if there is something to tell; what is still to be told after that: nothing."""
        if why:
            log.warning("publishing again", say=f"Publishing again: {why}.", reason=why)
        return ""

    async def _sleep(self, seconds: float) -> None:
        """Unless something says: now."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._again.wait(), seconds)

    def _give_up(self, error: PublishError, tried_s: float) -> bool:
        status = error.status if isinstance(error, Refused) else 0
        if self._zero is not None:  # it has been live
            if status in (401, 403):
                said = error.what.partition(": ")[2] or "its token is no longer accepted"
                self._finish(Ending(f"ended by the stream manager ({said})", told=True))
                return True
            return False
        if status == 503 and tried_s < _BUSY_S:
            return False
        self._finish(Ending(error.what, error))
        return True

    async def _connect(self, info: SourceInfo, timeout: float) -> tuple[Peer, whip.Published]:
        peer = Peer(
            self._options.codec,
            info.sound,
            self._key_frame_wanted,
            self._on_estimate,
            self._on_receiver_report,
        )
        try:
            offer = await peer.offer()
            published = await whip.publish(self._http, self._options.whip, offer, timeout)
            self._published = published
            self._figures.session = published.session
            await peer.accept(published.answer, timeout)
        except BaseException:
            self._retire(peer)
            raise
        return peer, published

    def _go_live(self, peer: Peer, published: whip.Published) -> None:
        self._peer = peer
        self._figures.new_peer(peer)
        self._figures.message = ""
        self._rate.on_new_path()
        if self._zero is None:
            self._zero = time.monotonic() + 0.02
            self._order(Order.GO, self._zero)
        else:
            self._order(Order.KEY_FRAME)
        self._set_state(PublishState.LIVE)
        log.info("live", resource=published.resource)

    async def _on_air(self, peer: Peer) -> str:
        """Until the connection is lost, or is to be left; why."""
        checked = time.monotonic()
        while not peer.lost.done() and not self._again.is_set():
            await asyncio.wait({peer.lost}, timeout=_CHECK_S)
            now = time.monotonic()
            if now - checked > 4 * _CHECK_S:
                peer.forgive_silence(now)
            checked = now
            peer.check_silence(now)
        return peer.lost.result() if peer.lost.done() else "the stream manager says to publish again"

    def _retire(self, peer: Peer) -> None:
        """Let go of a connection. No DELETE: that would end the live stream, which is to go on by another."""
        if self._peer is peer:
            self._peer = None
            self._figures.new_peer(None)
        task = asyncio.create_task(peer.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    # What comes back.

    def _key_frame_wanted(self) -> None:
        self._order(Order.KEY_FRAME)

    def _on_estimate(self, bps: float) -> None:
        self._rate.on_estimate(bps, time.monotonic())

    def _on_receiver_report(self, lost: float, rtt: float | None) -> None:
        self._rate.on_report(lost, rtt, time.monotonic())

    async def _adapt(self) -> None:
        while not self._options.copy:
            await asyncio.sleep(1.0)
            before = self._rate.target_bps
            target = self._rate.step(time.monotonic())
            if target != before:
                log.info("bitrate", target_bps=round(target), asked_bps=self._rate.asked_bps)
                self._figures.target_bps = target
                self._order(Order.BITRATE, target)

    def _obey(self, order: PublisherOrder, session: str) -> None:
        if order.action == "stop":
            self._finish(Ending(f"ended by the stream manager ({order.reason or 'stopped'})", told=True))
        elif (
            order.action == "reconnect"
            and session == (self._figures.session or "")
            and self._zero is not None
        ):
            # An order about a session that has been replaced since was answered already.
            log.info("told to publish again", reason=order.reason)
            self._again.set()
