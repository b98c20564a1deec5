"""`python -m media.node.worker`: one packet path, one process, one UDP port. Started by the agent only.

Speaks with the agent over an inherited socket (ipc.py) and ends when that closes, whatever became of it.
Nothing else runs in here: beside one busy Python thread a frame to twenty viewers takes fifty times as long.
"""

import argparse
import asyncio
import contextlib
import os
import resource
import signal
import socket
import sys
from typing import Any

import structlog

from controlplane.wire.nodes import Role, SessionKind
from media.drive.arena import Arena
from media.drive.loop import new_loop
from media.drive.tcp import bind_both, listen
from media.drive.udp import PortError
from media.node import logs
from media.node.collector import Collector, spare_the_packets
from media.node.engine import Engine
from media.node.errors import Refused
from media.node.ipc import Channel, Message

log = structlog.get_logger(__name__)

DESCRIPTORS = 65_536  # at most
DESCRIPTORS_KEPT = 128  # for all that is no TCP connection: relays, logs, the pipe


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m media.node.worker", description=__doc__)
    parser.add_argument("--fd", type=int, required=True, help="the inherited socket to the agent")
    parser.add_argument("--name", required=True, help="for the log: edge-1.worker-0")
    parser.add_argument("--role", required=True, choices=[Role.ORIGIN.value, Role.EDGE.value])
    parser.add_argument("--address", action="append", required=True, help="announced address, best first")
    parser.add_argument("--udp-port", type=int, help="default: the first free one from 20000; TCP on it too")
    parser.add_argument("--tcp-port", type=int, help="another one for TCP, shared by the machine's workers")
    return parser.parse_args(arguments)


class Worker:
    """Carries the agent's messages to the engine and back."""

    def __init__(self, engine: Engine, channel: Channel) -> None:
        self._engine = engine
        self._channel = channel
        self._collector = Collector()

    async def run(self) -> None:
        """Until the agent says so or has gone. One request a turn of the loop: packets come between."""
        async for message in self._channel.messages():
            if message["op"] == "shutdown":
                return
            try:
                await self._handle(message)
            except Refused as refused:
                self._refuse(message, refused.problem)
            except Exception:
                # One request must not end the packet path of every other session.
                log.exception("request_failed", op=message["op"])
                self._refuse(
                    message,
                    {
                        "status": 500,
                        "code": "internal",
                        "title": "The worker failed",
                        "detail": "The node's log says why.",
                    },
                )
            if self._channel.waiting:
                await asyncio.sleep(0)

    def _refuse(self, message: Message, problem: dict[str, Any]) -> None:
        if "ref" in message:
            self._channel.send({"ev": "problem", "ref": message["ref"], "problem": problem})

    async def _handle(self, message: Message) -> None:
        engine = self._engine
        answer: Message = {"ev": "done"}
        match message["op"]:
            case "session":
                kind = SessionKind(message["kind"])
                agreed = engine.create(
                    message["id"], kind, message["channel"], message["offer"], message["video_codec"]
                )
                codec = None if agreed.video is None else agreed.video.codec
                answer = {
                    "ev": "answer",
                    "answer": agreed.answer,
                    "video_codec": None if codec is None else codec.name,
                }
            case "patch":
                restarted = engine.patch(message["id"], message["fragment"], message["if_match"])
                if restarted is not None:
                    answer = {"ev": "restarted"} | restarted.model_dump()
            case "close":
                for session in message["ids"]:
                    with contextlib.suppress(Refused):  # it ended just now
                        engine.close(session, message["reason"])
                    await asyncio.sleep(0)
            case "end":
                engine.end_channel(message["channel"], message["reason"])
            case "resubscribe":
                engine.resubscribe(message["channel"], message["reason"])
            case "subscribed":
                engine.subscribed(
                    message["channel"], message["attempt"], message["session"], message["answer"]
                )
            case "refused":
                engine.refused(message["channel"], message["attempt"], message["detail"])
            case "report":
                self._collector.look(engine.sessions)
                answer = {"ev": "report"} | engine.report()
                if message["sessions"]:
                    rows: list[dict[str, Any]] = []
                    for some in engine.session_rows():
                        rows += some
                        await asyncio.sleep(0)
                    answer["sessions"] = rows
            case "inspect":
                answer = {"ev": "inspected", "session": engine.inspect(message["id"]).model_dump(mode="json")}
            case "counts":
                answer = {"ev": "counts"} | engine.counts()
            case other:
                log.warning("unknown_message", op=other)
        if "ref" in message:
            self._channel.send(answer | {"ref": message["ref"]})


def raise_descriptor_limit() -> int:
    """Each viewer over TCP takes a descriptor: have as many as we may. Returns how many that is."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    return DESCRIPTORS if soft == resource.RLIM_INFINITY else soft


async def run(options: argparse.Namespace) -> int:
    loop = asyncio.get_running_loop()
    agent = await Channel.open(socket.socket(fileno=options.fd))
    dual_stack = any(":" in address for address in options.address)
    connections = max(DESCRIPTORS_KEPT, raise_descriptor_limit() - DESCRIPTORS_KEPT)
    try:
        sock, listener = bind_both(options.udp_port, dual_stack=dual_stack)
        shared = None
        if options.tcp_port is not None:
            shared = listen(options.tcp_port, dual_stack=dual_stack, shared=True)
        engine = Engine(
            loop,
            Role(options.role),
            sock,
            options.address,
            agent.send,
            listener=listener,
            shared=shared,
            connections=connections,
            outbound_made=Arena("viewers"),
        )
    except PortError as error:
        agent.send({"ev": "failed", "message": str(error)})
        await agent.close()
        return 1
    worker = asyncio.create_task(Worker(engine, agent).run())
    loop.add_signal_handler(signal.SIGTERM, worker.cancel)
    agent.send(
        {
            "ev": "ready",
            "pid": os.getpid(),
            "port": engine.endpoint.port,
            "fingerprint": engine.certificate.fingerprint,
        }
    )
    with contextlib.suppress(asyncio.CancelledError):
        await worker
    engine.shutdown("the node ends")
    await agent.close()
    return 0


def main(arguments: list[str]) -> int:
    options = parse(arguments)
    # The agent decides, we follow: also where somebody signals all that runs in a terminal.
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    logs.configure(options.name)
    spare_the_packets()
    with asyncio.Runner(loop_factory=new_loop) as runner:
        return runner.run(run(options))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
