"""The supervisor's hold on detached publishers: one process a channel, kept on air until it is done.

What is wanted stands in a file of mode 0600 (it holds the publish token), so a new supervisor finds it.
A publisher prints its PublishLines to a file beside it; the newest line and its log say how it ended when its
exit code cannot be known (a process that a former supervisor started):

    exit code 0, or the state "ended"                      it is done
    it said in words why it failed                         it failed, and would again
    anything else (killed, crashed, machine in trouble)    it is started again, with the same token
"""

import asyncio
import contextlib
import json
import os
import time
from pathlib import Path
from subprocess import Popen
from typing import Literal

from pydantic import ValidationError

from console.core import logs
from console.core.errors import StageError
from console.core.paths import Home, unusable
from console.core.stage.control import PublishOrder
from console.core.stage.launch import launch_detached, module_command
from console.core.stage.manager import Logger
from console.core.stage.model import PublisherSpec, PublisherStatus
from console.core.stage.processes import end_processes, forget, wait_end
from console.core.stage.restarts import Restarts
from controlplane.wire import processes as records
from controlplane.wire.processes import ProcessRecord
from controlplane.wire.publishing import PublishLine, PublishState

LINES_KEPT_BYTES = 256 * 1024
LOG_LINES = 20
ENDING_S = 8.0  # what a publisher that is told to end may take: a kill after processes.TERM_GRACE_S included
CONNECTION_CODES = (3, 4)  # nobody answered, or not in time: worth another try once it was live


def publisher_arguments(spec: PublisherSpec) -> list[str]:
    """The part of the publisher's command line that says what to send."""
    words = ["--channel", spec.channel, "--source", spec.source]
    if spec.codec != "h264":
        words += ["--codec", spec.codec]
    if spec.bitrate_bps is not None:
        words += ["--bitrate", str(round(spec.bitrate_bps))]
    if spec.loop:
        words.append("--loop")
    if spec.copy_mode:
        words.append("--copy")
    if spec.size is not None:
        words += ["--size", spec.size]
    if spec.fps is not None:
        words += ["--fps", f"{spec.fps:g}"]
    return words


def publisher_name(channel: str) -> str:
    return f"publisher-{channel}"


class PublisherKeeper:
    """One channel's publisher, from its order to its end."""

    def __init__(self, home: Home, order: PublishOrder, log: Logger) -> None:
        self.order = order
        self.name = publisher_name(order.spec.channel)
        self._home = home
        self._log = log
        self._file = home.publishers / f"{order.spec.channel}.json"
        self._lines = home.publishers / f"{order.spec.channel}.out"
        self._restarts = Restarts()
        self._wake = asyncio.Event()
        self._stopping = False
        self._was_live = False
        self._process: Popen[bytes] | None = None
        self._record: ProcessRecord | None = None
        self._log_start = 0
        self._code: int | None = None
        self._state: Literal["running", "waiting", "ended", "failed"] = "running"
        self._error = ""

    @property
    def done(self) -> bool:
        return self._state in ("ended", "failed")

    def status(self) -> PublisherStatus:
        line = self._last_line()
        self._was_live = self._was_live or (line is not None and line.state is PublishState.LIVE)
        return PublisherStatus(
            channel=self.order.spec.channel,
            state=self._state,
            pid=self._record.pid if self._record else None,
            restarts=self._restarts.total,
            exit_code=self._code,
            error=self._error,
            line=line,
        )

    def adopt(self, record: ProcessRecord) -> None:
        self._record = record
        self._was_live = True
        self._log_start = max(0, _size(self._home.log(self.name)) - 64 * 1024)
        self._log.info("adopted a publisher", channel=self.order.spec.channel, pid=record.pid)

    def want(self) -> None:
        """Write down that this broadcast is wanted. StageError when that cannot be."""
        temporary = self._file.with_suffix(".new")
        try:
            handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(handle, "w") as file:
                file.write(self.order.model_dump_json())
            os.replace(temporary, self._file)
        except OSError as error:
            raise unusable(self._file, error) from error

    def launch(self) -> None:
        """Start the process. StageError when that cannot be."""
        order = self.order
        self._code, self._error, self._state = None, "", "running"
        launched = launch_detached(
            self._home,
            self.name,
            "publisher",
            module_command(
                "media.publisher",
                *("--whip", order.whip, "--report", order.report, "--json"),
                *("--run-dir", str(self._home.run), "--name", self.name),
                *publisher_arguments(order.spec),
            ),
            secrets={"SHOWCALLER_TOKEN": order.token},
            stdout=self._lines,
        )
        self._process, self._record, self._log_start = launched.process, launched.record, launched.log_start
        self._log.info("started a publisher", channel=order.spec.channel, pid=launched.process.pid)

    async def run(self) -> None:
        """Keep it on air until it is done. Cancelling leaves the process alone."""
        while True:
            started = time.monotonic()
            if self._record is not None:
                await wait_end(self._record)
            if self._process is not None:
                self._code = await asyncio.to_thread(self._process.wait)
                self._process = None
            self.status()  # notes whether it was live
            if self._record is not None:
                forget(self._home.processes, self._record)
                self._record = None
            if self._judge():
                self._file.unlink(missing_ok=True)
                return
            wait = self._restarts.ended(time.monotonic(), time.monotonic() - started)
            self._state = "waiting"
            if self._restarts.tripped:
                self._error = f"it keeps ending; next try in {wait:.0f} s. {self._error}".strip()
            self._log.warning(
                "a publisher ended, starting it again",
                channel=self.order.spec.channel,
                exit_code=self._code,
                wait_s=wait,
            )
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), wait)
            if self._stopping:
                self._finish("ended")
                return
            try:
                self.launch()
            except StageError as error:
                self._error = str(error)
                self._finish("failed")
                return

    def _finish(self, state: Literal["ended", "failed"]) -> None:
        self._state = state
        self._file.unlink(missing_ok=True)

    def _judge(self) -> bool:
        """Whether this end is the last; sets the state and the words for it."""
        lines = logs.last_lines(self._home.log(self.name), LOG_LINES, since=self._log_start)
        words = logs.error_words(lines)
        last = self._last_line()
        state = last.state if last is not None else None
        self._error = words
        if self._stopping or self._code == 0 or (self._code is None and state is PublishState.ENDED):
            self._state, self._error = "ended", ""
        elif words and not (self._was_live and self._code in CONNECTION_CODES):
            self._state = "failed"
        else:
            return False
        self._log.info(
            "a publisher is done", channel=self.order.spec.channel, state=self._state, reason=self._error
        )
        return True

    async def stop(self) -> None:
        """End it cleanly and for good."""
        self.expect_end()
        record = self._record
        if record is not None:
            encoder = f"encoder-{self.order.spec.channel}"
            dependants = [r for r in records.read_alive(self._home.processes) if r.name == encoder]
            await asyncio.to_thread(end_processes, self._home.processes, [record], dependants)

    def expect_end(self) -> None:
        """Whatever ends from now on is meant to."""
        self._stopping = True
        self._wake.set()
        self._file.unlink(missing_ok=True)

    def trim(self) -> None:
        """Keep the file of lines short; the publisher appends, so it goes on at the new end."""
        if _size(self._lines) > LINES_KEPT_BYTES:
            with contextlib.suppress(OSError):
                os.truncate(self._lines, 0)

    def _last_line(self) -> PublishLine | None:
        for line in reversed(logs.last_lines(self._lines, 3)):
            try:
                return PublishLine.model_validate_json(line)
            except ValidationError:
                continue
        return None


class Publishers:
    """All detached publishers of the stage, by channel."""

    def __init__(self, home: Home, log: Logger) -> None:
        self._home = home
        self._log = log
        self._keepers: dict[str, PublisherKeeper] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def statuses(self) -> list[PublisherStatus]:
        return [self._keepers[channel].status() for channel in sorted(self._keepers)]

    def resume(self) -> None:
        """Take over what a former supervisor had on air: adopt who lives, start who does not."""
        alive = {record.name: record for record in records.read_alive(self._home.processes)}
        for path in sorted(self._home.publishers.glob("*.json")):
            try:
                order = PublishOrder.model_validate(json.loads(path.read_text()))
            except (OSError, ValueError) as error:
                self._log.warning("passed over a damaged order", file=str(path), reason=str(error))
                continue
            keeper = PublisherKeeper(self._home, order, self._log)
            record = alive.get(keeper.name)
            if record is not None:
                keeper.adopt(record)
            self._keep(keeper)

    async def start(self, order: PublishOrder, *, ending: bool = False) -> PublisherStatus:
        """Put a broadcast on air. StageError when that cannot be, or when its channel is on air from here.

        `ending`: the manager has ended the channel's broadcast: a publisher that still runs is about to end,
        and is waited for.
        """
        channel = order.spec.channel
        known = self._keepers.get(channel)
        if ending and known is not None and not known.done:
            self._log.info("waiting for the end of the broadcast before", channel=channel)
            await asyncio.wait([self._tasks[channel]], timeout=ENDING_S)
            known = self._keepers.get(channel)
        if known is not None and not known.done:
            raise StageError(
                f"{channel} is already on air from this stage",
                f"Stop it first with `showcaller streams stop {channel}`, or choose another channel",
            )
        keeper = PublisherKeeper(self._home, order, self._log)
        keeper.want()
        try:
            keeper.launch()
        except StageError:
            keeper.expect_end()
            raise
        self._keep(keeper)
        return keeper.status()

    async def stop(self, channel: str) -> PublisherStatus:
        keeper = self._keepers.get(channel)
        if keeper is None:
            raise StageError(
                f"{channel} was not started by this stage", "See what is on air with `showcaller streams`"
            )
        await keeper.stop()
        await asyncio.wait([self._tasks[channel]], timeout=ENDING_S)
        return keeper.status()

    def expect_end(self) -> None:
        for keeper in self._keepers.values():
            keeper.expect_end()

    def trim(self) -> None:
        for keeper in self._keepers.values():
            keeper.trim()

    async def close(self) -> None:
        """Stop watching; the processes are left as they are."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def _keep(self, keeper: PublisherKeeper) -> None:
        channel = keeper.order.spec.channel
        self._keepers[channel] = keeper
        self._tasks[channel] = asyncio.create_task(keeper.run(), name=keeper.name)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
