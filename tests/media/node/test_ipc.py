"""What agent and worker say to each other, whole or cut off."""

import asyncio
import json
import socket
import subprocess
import sys
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from media.node.ipc import Channel, Message
from media.node.workers import Launched, Worker, WorkerPlan
from tests.support.wait import wait_for

PLAN = WorkerPlan(index=0, name="edge-1.worker-0", role="edge", addresses=("127.0.0.1",), udp_port=None)


def launch(program: Path, pair: socket.socket) -> "subprocess.Popen[bytes]":
    with pair:
        return subprocess.Popen([sys.executable, program, str(pair.fileno())], pass_fds=(pair.fileno(),))


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
    ours, theirs = socket.socketpair()
    program = tmp_path / "worker.py"
    program.write_text(
        "import os, signal, socket, sys\n"
        "with socket.socket(fileno=int(sys.argv[1])) as agent:\n"
        """    agent.sendall(b'{"ev": "ready", "port": 20000, "fingerprint": "AA"}\\n{"ev": "rep')\n"""
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    process = launch(program, theirs)
    ours.setblocking(False)
    gone: list[Worker] = []
    worker = Worker(Launched(PLAN, process, ours), lambda *_: None, gone.append)
    await wait_for(lambda: gone == [worker], 10.0, "its end is noticed")
    assert not worker.alive
    assert process.returncode == -9
    await worker.ready()
