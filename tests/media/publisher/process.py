"""A publisher as a process, as a person starts it, and what it printed."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from controlplane.wire.processes import read_alive
from controlplane.wire.publishing import PublishLine
from tests.media.publisher.endpoint import TOKEN
from tests.support.wait import wait_for

PATIENCE_S = 40.0


class Publisher:
    """`async with Publisher(...) as it`: started on entering; killed on leaving, if it still runs."""

    def __init__(
        self,
        whip: str,
        source: str,
        *flags: str,
        run_dir: Path | None = None,
        token: str = TOKEN,
        json_lines: bool = True,
    ) -> None:
        words = ["--whip", whip, "--channel", "main", "--source", source, *flags]
        if json_lines:
            words.append("--json")
        if run_dir is not None:
            words += ["--run-dir", str(run_dir)]
        self._words = words
        self._run_dir = run_dir
        self._token = token
        self._json = json_lines
        self.lines: list[PublishLine] = []
        self.text: list[str] = []
        self.stderr = ""

    async def __aenter__(self) -> "Publisher":
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith("SHOWCALLER_")
        }
        self.process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "media.publisher",
            *self._words,
            env=environment | {"SHOWCALLER_TOKEN": self._token},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            process_group=0,  # as a shell does; a session of its own would make it think that nobody is there
        )
        self._readers = [asyncio.create_task(self._read_lines()), asyncio.create_task(self._read_stderr())]
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()
        await asyncio.gather(*self._readers)

    async def _read_lines(self) -> None:
        assert self.process.stdout is not None
        async for raw in self.process.stdout:
            self.text.append(raw.decode())
            if self._json:
                self.lines.append(PublishLine.model_validate_json(raw))

    async def _read_stderr(self) -> None:
        assert self.process.stderr is not None
        async for raw in self.process.stderr:
            self.stderr += raw.decode()

    async def ended(self) -> int:
        """Its exit code, once it has ended and all it said was read."""
        code = await asyncio.wait_for(self.process.wait(), PATIENCE_S)
        await asyncio.gather(*self._readers)
        return code

    async def error(self) -> dict[str, Any]:
        """The error it ended with (of a publisher that prints JSON)."""
        await self.ended()
        body: dict[str, Any] = json.loads(self.stderr.splitlines()[-1])["error"]
        return body

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def interrupt(self) -> None:
        """Ctrl-C, as a terminal sends it: to the whole process group."""
        os.killpg(self.process.pid, signal.SIGINT)

    async def encoder(self) -> int:
        """The pid of its encoder process, from the record it keeps."""
        assert self._run_dir is not None
        folder = self._run_dir / "processes"

        def find() -> int | None:
            return next((r.pid for r in read_alive(folder) if r.name == "encoder-main"), None)

        pid = await wait_for(find, PATIENCE_S, "an encoder process")
        assert pid is not None
        return pid
