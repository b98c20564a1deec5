"""Once a second: a line on stdout, and a report to the stream manager whose answer may be an order."""

import asyncio
import sys
from collections.abc import Callable

import httpx
import structlog
from pydantic import ValidationError

from controlplane.wire.publishing import PublisherOrder
from media.publisher import redirects
from media.publisher.figures import Figures, for_people

_REPORT_TIMEOUT_S = 3.0

log = structlog.get_logger()


class Reporter:
    def __init__(
        self, figures: Figures, http: httpx.AsyncClient, on_order: Callable[[PublisherOrder, str], None]
    ):
        """`on_order` is given the order and the session that was reported when it was asked for."""
        self._figures = figures
        self._http = http
        self._on_order = on_order
        self._url = figures.options.report
        self._soon = asyncio.Event()
        self._healthy = True
        self._stdout = True

    async def run(self) -> None:
        posting: asyncio.Task[None] | None = None
        loop = asyncio.get_running_loop()
        next_line = loop.time()
        while True:
            if loop.time() >= next_line:
                next_line = max(next_line + 1.0, loop.time() + 0.5)
                self._figures.tick()
                self.print_line()
            self._soon.clear()
            if self._url and (posting is None or posting.done()):
                posting = asyncio.create_task(self.post(_REPORT_TIMEOUT_S))
            try:
                await asyncio.wait_for(self._soon.wait(), max(0.0, next_line - loop.time()))
                await asyncio.sleep(0.02)  # several changes at once are one report
            except TimeoutError:
                pass

    def report_soon(self) -> None:
        """Something changed: do not wait for the second to end."""
        self._soon.set()

    def print_line(self) -> None:
        if not self._stdout or sys.stdout is None:  # None: it was closed before we began
            return
        line = self._figures.line()
        try:
            print(line.model_dump_json() if self._figures.options.json else for_people(line), flush=True)
        except (OSError, ValueError) as error:
            # Whoever read the lines has gone, or the disk they are written to is full. The viewers are there.
            self._stdout = False
            sys.stdout = None  # or Python complains of it at exit
            if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):
                reason = (error.strerror or str(error)).lower()
                why = f"the status lines cannot be written any more ({reason})"
            else:
                why = "nobody reads the status lines any more"
            log.warning("%s; the broadcast goes on (Ctrl-C ends it)", why)

    async def post(self, timeout: float) -> None:
        if not self._url:
            return
        report = self._figures.report()
        session = report.session or ""
        try:
            response = await redirects.send(
                self._http,
                "POST",
                self._url,
                content=report.model_dump_json(),
                headers={"Content-Type": "application/json"},
                timeout=timeout,
            )
            response.raise_for_status()
            order = PublisherOrder.model_validate_json(response.content)
        except (httpx.HTTPError, httpx.InvalidURL, ValidationError) as error:
            # Reports are a courtesy: media goes on without them, and only media decides what is live.
            if self._healthy:
                self._healthy = False
                log.info("reports are not taken", url=self._url, error=str(error) or type(error).__name__)
            return
        if not self._healthy:
            self._healthy = True
            log.info("reports are taken again", url=self._url)
        self._on_order(order, session)
