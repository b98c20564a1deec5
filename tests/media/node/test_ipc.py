"""What agent and worker say to each other, whole or cut off."""

import asyncio
import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.node import ipc
from media.node.ipc import Channel, Message
from media.node.workers import Launched, Worker, WorkerGone, WorkerPlan
from tests.support.wait import wait_for

PLAN = WorkerPlan(index=0, name="edge-1.worker-0", role="edge", addresses=("127.0.0.1",), udp_port=None)


def worker_that(does: str, folder: Path, gone: list[Worker]) -> Worker:
    """One whose process is a program: lines of Python with its end of the pair as `agent`."""
    lines = "".join(f"    {line}\n" for line in does.splitlines())
    program = folder / "worker.py"
    program.write_text(
        f"import os, signal, socket, sys\nwith socket.socket(fileno=int(sys.argv[1])) as agent:\n{lines}"
    )
    ours, theirs = socket.socketpair()
    with theirs:
        descriptor = theirs.fileno()
        process = subprocess.Popen([sys.executable, program, str(descriptor)], pass_fds=(descriptor,))
    ours.setblocking(False)
    return Worker(Launched(PLAN, process, ours), lambda *_: None, gone.append)


async def read(sent: bytes) -> list[Message]:
    """What the one end makes of these bytes from the other, which then closes."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    channel = await Channel.open(ours)
    with theirs:
        theirs.sendall(sent)
    messages = [message async for message in channel.messages()]
    await channel.close()
    return messages


@given(
    messages=st.lists(
        st.dictionaries(st.text(max_size=4), st.integers(0, 9) | st.text(max_size=4), max_size=3)
    ),
    cut=st.integers(0, 400),
)
def test_a_stream_that_is_cut_gives_its_whole_messages(messages: list[Message], cut: int) -> None:
    lines = [json.dumps(message).encode() + b"\n" for message in messages]
    stream = b"".join(lines)[:cut]
    whole = stream.count(b"\n")
    assert asyncio.run(read(stream)) == messages[:whole]


@given(st.binary(max_size=300))
def test_what_is_no_message_ends_the_conversation(garbage: bytes) -> None:
    before = {"op": "report"}
    read_of_it = asyncio.run(read(json.dumps(before).encode() + b"\n" + garbage))
    assert read_of_it[0] == before
    assert all(isinstance(message, dict) for message in read_of_it)


async def test_a_worker_that_is_killed_while_it_speaks_is_noticed(tmp_path: Path) -> None:
    gone: list[Worker] = []
    worker = worker_that(
        """agent.sendall(b'{"ev": "ready", "port": 20000, "fingerprint": "AA"}\\n{"ev": "rep')\n"""
        "os.kill(os.getpid(), signal.SIGKILL)\n",
        tmp_path,
        gone,
    )
    await wait_for(lambda: gone == [worker], 10.0, "its end is noticed")
    assert not worker.alive
    assert worker.process.returncode == -9
    await worker.ready()


async def test_messages_are_taken_as_they_come_and_their_order_is_kept() -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    taken: list[Message] = []
    channel = await Channel.open(ours, taken.append)
    with theirs:
        long = {"op": "report", "rows": ["x" * 1000] * 2000}
        stream = b"".join(json.dumps(message).encode() + b"\n" for message in (long, {"op": "counts"}, long))
        await asyncio.to_thread(theirs.sendall, stream)
        await wait_for(lambda: len(taken) == 3, 10.0, "all have come")
        assert taken == [long, {"op": "counts"}, long]
        channel.send({"ev": "done"})
        theirs.setblocking(True)
        assert await asyncio.to_thread(theirs.recv, 100) == b'{"ev":"done"}\n'
    await channel.ended()
    channel.send({"ev": "nobody hears it"})
    await channel.close()


async def test_a_line_without_an_end_ends_the_conversation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ipc, "MAX_LINE", 1000)
    assert await read(b'{"op": "report"}\n' + b" " * 2000 + b'{"op": "report"}\n') == [{"op": "report"}] * 2
    assert await read(b'{"op": "report"}\n' + b" " * 2000) == [{"op": "report"}]


async def test_a_worker_that_does_not_answer_is_said_to_be_away(tmp_path: Path) -> None:
    gone: list[Worker] = []
    worker = worker_that(
        """agent.sendall(b'{"ev": "ready", "port": 20000, "fingerprint": "AA"}\\n')\n"""
        "while b'shutdown' not in agent.recv(4096):\n"
        "    pass\n",
        tmp_path,
        gone,
    )
    await worker.ready()
    with pytest.raises(WorkerGone, match=r"did not answer within 0\.1 s"):
        await worker.ask({"op": "report"}, 0.1)
    assert worker.alive
    await worker.end()
    assert gone == [worker]
    with pytest.raises(WorkerGone, match="is not running"):
        await worker.ask({"op": "report"})
