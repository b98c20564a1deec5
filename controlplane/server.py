"""The HTTP server of a manager: uvicorn on sockets bound before, ended by the manager's own signals."""

import asyncio
import contextlib
import json
import signal
import socket
import ssl
from collections.abc import Iterator

import structlog
import uvicorn

from controlplane.compose import Stage

log = structlog.get_logger(__name__)

STOP_WITHIN_S = 2.0


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, bound: socket.socket) -> None:
        super().__init__(config)
        self._bound = bound
        self.listens = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the manager's, not the server's."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listens.set()

    async def run_bound(self) -> None:
        await self.serve(sockets=[self._bound])


def make(stage: Stage, bound: socket.socket, tls: ssl.SSLContext | None) -> _Server:
    settings = uvicorn.Config(
        stage.app,
        http="httptools",
        ws="websockets-sansio",
        lifespan="off",
        access_log=False,
        log_config=None,
        log_level="warning",
        server_header=False,
        proxy_headers=False,  # who speaks is who has connected: a header may say anything
        ws_per_message_deflate=False,  # 0.8 ms instead of 5 for five consoles
        timeout_graceful_shutdown=1,
    )
    settings.load()
    settings.ssl = tls
    return _Server(settings, bound)


async def serve(stage: Stage, servers: list[_Server]) -> signal.Signals | None:
    """Serve until SIGTERM, SIGHUP or SIGINT; which it was. Prints the ready line when everything listens."""
    told: asyncio.Queue[signal.Signals] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, told.put_nowait, number)
    serving = [asyncio.create_task(server.run_bound()) for server in servers]
    for server in servers:
        await server.listens.wait()
    stage.start()
    addresses = stage.manager.views.addresses
    print(json.dumps({"ready": True, "api": addresses.api, "watch": addresses.watch}), flush=True)
    log.info("ready", api=addresses.api, watch=addresses.watch)

    waiting = asyncio.create_task(told.get())
    await asyncio.wait([waiting, *serving], return_when=asyncio.FIRST_COMPLETED)
    number_told = waiting.result() if waiting.done() else None
    waiting.cancel()
    log.info("ending", signal=number_told.name if number_told else None)
    stage.stop_feeds()
    for server in servers:
        server.should_exit = True
    done, late = await asyncio.wait(serving, timeout=STOP_WITHIN_S)
    for task in late:
        task.cancel()
    for task in done:
        task.result()
    return number_told
