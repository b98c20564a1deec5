"""A way to a database server that breaks where a test says: between us and it, byte for byte."""

import asyncio
import contextlib
import enum
from collections.abc import AsyncIterator

COMMIT = b"\x07\x00\x00\x00\x03COMMIT"  # the whole packet: 7 bytes, the first of its exchange, COM_QUERY


class At(enum.Enum):
    """What happens to the next COMMIT."""

    PASSES = enum.auto()
    NEVER_ARRIVES = enum.auto()  # and the connection is cut
    GETS_NO_ANSWER = enum.auto()  # it is done, and the connection is cut
    LINGERS = enum.auto()  # not passed on before `arrive`, also where we have gone meanwhile


class Proxy:
    def __init__(self, port: int) -> None:
        self._to = port
        self.port = 0
        self.commit = At.PASSES
        self.commits = 0  # that were asked for
        self.shut = False  # nobody is let in
        self.last_word = asyncio.Event()  # of the COMMIT that `commit` was about
        self.arrive = asyncio.Event()
        self._connections: set[asyncio.Task[None]] = set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)
        with contextlib.suppress(OSError):
            if self.shut:
                return writer.transport.abort()
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._to)
            back = asyncio.ensure_future(self._back(far_reader, writer))
            try:
                while data := await reader.read(65_536):
                    if data == COMMIT and not await self._said(data, back, far_reader, far_writer):
                        break
                    if data != COMMIT:
                        far_writer.write(data)
            finally:
                back.cancel()
                writer.transport.abort()
                far_writer.transport.abort()
        return None

    async def _said(
        self,
        data: bytes,
        back: "asyncio.Task[None]",
        far_reader: asyncio.StreamReader,
        far_writer: asyncio.StreamWriter,
    ) -> bool:
        """Treat a COMMIT; False: this was the connection's end."""
        self.commits += 1
        what, self.commit = self.commit, At.PASSES
        if what is At.PASSES:
            far_writer.write(data)
            return True
        back.cancel()
        await asyncio.wait({back})
        if what is At.GETS_NO_ANSWER:
            far_writer.write(data)
            await far_reader.read(65_536)
        self.last_word.set()
        if what is At.LINGERS:
            await self.arrive.wait()
            far_writer.write(data)
            await far_reader.read(65_536)
        return False

    @staticmethod
    async def _back(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                writer.write(data)
        writer.transport.abort()

    def cut(self) -> None:
        """Every connection there is."""
        for task in self._connections:
            task.cancel()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Proxy"]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            self.cut()
            await asyncio.gather(*self._connections, return_exceptions=True)
