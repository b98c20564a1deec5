"""A node's workers together: which runs, which session is on which, and another one where one died.

A channel has a home: the worker that has its source (the publisher's session, or the relay from the origin).
Other workers of the node take it from there, over the same kind of relay that joins two nodes.
"""

import asyncio
import contextlib
import os
from collections import defaultdict
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import structlog

from controlplane.wire import processes
from controlplane.wire.inside import SessionInside
from controlplane.wire.nodes import Role, SessionAnswer, SessionKind, SessionRequest, WorkerInfo
from media.node.control import ControlError
from media.node.placement import Placement
from media.node.workers import Launched, Message, Worker, WorkerFailed, WorkerGone, launch

log = structlog.get_logger(__name__)

ASK_REPORT_WITHIN = 0.8  # seconds
STUCK_AFTER = 10.0  # seconds without a word: who is only slow is not killed, its viewers would all come again

Subscribe = Callable[[Worker, Message], Awaitable[None]]


class Crew:
    """All workers of one node. Methods that serve a request raise ControlError."""

    def __init__(
        self, role: Role, run_dir: Path, name: str | None, capacity: int | None, subscribe: Subscribe
    ) -> None:
        """`name` is the node's, once it is known; `subscribe` serves a worker that wants a channel."""
        self.name = name
        self.ended: list[str] = []  # sessions, until the manager has been told
        self.home: dict[str, int] = {}  # channel -> index of the worker that has its source
        self._role = role
        self._records = run_dir / "processes"
        self._capacity = capacity
        self._subscribe = subscribe
        self._workers: dict[int, Worker] = {}  # by index
        self._answers: dict[int, dict[str, Any]] = {}  # each worker's last report
        self._counts: dict[int, dict[str, Any]] = {}  # and what it last counted
        self.restarted = 0  # workers that were replaced
        self._placement = Placement()
        self._connections: set[str] = set()  # sessions of publishers and viewers, as capacity counts them
        self._publishes: dict[str, str] = {}  # session of a publisher -> its channel
        self.died = asyncio.Event()  # a worker has, with sessions on it: the manager is to hear of it at once
        self._stopping = False
        self._ready = False
        self._tasks: set[asyncio.Task[None]] = set()

    # -- their lives

    def adopt(self, launched: Launched) -> None:
        self._take(Worker(launched, self._event, self._gone))

    def _take(self, worker: Worker) -> None:
        self._workers[worker.plan.index] = worker
        self._record(worker)

    async def ready(self) -> None:
        """Wait until all have bound their ports; raises WorkerFailed or WorkerGone."""
        await asyncio.gather(*(worker.ready() for worker in self._workers.values()))
        self._ready = True

    def rename(self, name: str) -> None:
        """The manager has named the node: the records follow."""
        before, self.name = self.name, name
        if before is not None and before != name:
            processes.remove(self._records, before)
        processes.record_self_or_child(self._records, name, "node", os.getpid())
        for worker in self._workers.values():
            if before is not None and before != name:
                processes.remove(self._records, f"{before}/worker-{worker.plan.index}")
            self._record(worker)

    def _record(self, worker: Worker) -> None:
        """So that `stage status` and `stage down` find it although we may be gone."""
        if self.name is not None:
            name = f"{self.name}/worker-{worker.plan.index}"
            processes.record_self_or_child(self._records, name, "worker", worker.pid)

    def _gone(self, worker: Worker) -> None:
        """A worker is dead: its sessions have ended; another takes its place unless we are ending too."""
        index = worker.plan.index
        if self.name is not None:
            processes.remove(self._records, f"{self.name}/worker-{index}")
        lost = self._placement.lost(index)
        for session in lost:
            self._forget(session)
        self.ended += lost
        homeless = [channel for channel, where in self.home.items() if where == index]
        for channel in homeless:
            del self.home[channel]
        self._answers.pop(index, None)
        self._counts.pop(index, None)
        if not self._stopping:
            code = worker.process.returncode
            log.error("worker_died", worker=index, pid=worker.pid, code=code, sessions=len(lost))
            if lost:
                self.died.set()
            for channel in homeless:
                self._resubscribe(channel)
            if self._ready:
                self.spawn(self._replace(worker))

    def _resubscribe(self, channel: str) -> None:
        """The worker that had the channel's source is dead: those that took it from there ask anew, at once.

        By themselves they would hear nothing for two seconds first, and their viewers see nothing new.
        """
        order = {"op": "resubscribe", "channel": channel, "reason": "the worker that had it has died"}
        for worker in self._workers.values():
            if worker.alive:
                worker.tell(order)

    async def _replace(self, dead: Worker) -> None:
        wait = 0.0
        while not self._stopping:
            await asyncio.sleep(wait)
            worker = Worker(launch(dead.plan), self._event, lambda _: None)
            try:
                await worker.ready()
            except (WorkerFailed, WorkerGone) as error:
                log.error("worker_restart_failed", worker=dead.plan.index, reason=str(error))
                if worker.process.poll() is None:
                    worker.process.kill()
                wait = min(5.0, max(0.25, wait * 2))
                continue
            worker.on_gone = self._gone
            self._take(worker)
            self.restarted += 1
            log.info("worker_restarted", worker=dead.plan.index, pid=worker.pid, port=worker.port)
            return

    def spawn(self, work: Any) -> None:
        """Run something beside; `end` gives it up."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def stop(self) -> None:
        """Replace nobody from now on."""
        self._stopping = True

    async def end(self) -> None:
        """All sessions are closed, all workers end; what they had counts as ended."""
        self._stopping = True
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*(worker.end() for worker in self._workers.values() if worker.alive))
        self.ended += self._placement.sessions
        self._placement.clear()
        self._connections.clear()
        self._publishes.clear()
        self._answers.clear()

    # -- figures

    @property
    def sessions(self) -> int:
        return len(self._placement)

    def infos(self) -> list[WorkerInfo]:
        return [
            WorkerInfo(index=index, pid=worker.pid, udp_port=worker.port, fingerprint=worker.fingerprint)
            for index, worker in sorted(self._workers.items())
            if worker.alive and worker.port
        ]

    async def reports(self, *, sessions: bool) -> list[tuple[int, dict[str, Any]]]:
        """What each worker says now (or said last), with its pid."""
        await asyncio.gather(*(self._ask_report(index, sessions) for index in list(self._workers)))
        return [(self._workers[index].pid, answer) for index, answer in sorted(self._answers.items())]

    async def _ask_report(self, index: int, sessions: bool) -> None:
        worker = self._workers[index]
        if not worker.alive:
            return
        try:
            said = await worker.ask({"op": "report", "sessions": sessions}, ASK_REPORT_WITHIN)
        except WorkerGone:
            silence = asyncio.get_running_loop().time() - worker.heard_at
            if silence >= STUCK_AFTER and worker.alive:
                log.error("worker_stuck", worker=index, pid=worker.pid, silent_s=round(silence, 1))
                worker.process.kill()
        else:
            self._answers[index] = self._answers.get(index, {"sessions": []}) | said  # those last told of

    @property
    def up(self) -> dict[int, bool]:
        """By index: whether the worker runs."""
        return {index: worker.alive and worker.port > 0 for index, worker in self._workers.items()}

    async def counts(self) -> dict[int, dict[str, Any]]:
        """What each worker that runs has counted, now or when it answered last, by index."""
        await asyncio.gather(*(self._ask_counts(worker) for worker in list(self._workers.values())))
        return dict(self._counts)

    async def _ask_counts(self, worker: Worker) -> None:
        with contextlib.suppress(WorkerGone):
            said = await worker.ask({"op": "counts"}, ASK_REPORT_WITHIN)
            if said["ev"] == "counts" and self._workers.get(worker.plan.index) is worker and worker.alive:
                self._counts[worker.plan.index] = said

    # -- sessions

    def _event(self, worker: Worker, message: Message) -> None:
        match message["ev"]:
            case "ended":
                self._forget(message["id"])
                if self._placement.remove(message["id"]):
                    self.ended.append(message["id"])
            case "subscribe":
                self.spawn(self._subscribe(worker, message))
            case "dropped":
                self._dropped(worker, message["channel"])
            case other:
                log.warning("unknown_event", ev=other)

    def _forget(self, session: str) -> None:
        """What else is known of a session that has ended."""
        self._connections.discard(session)
        self._publishes.pop(session, None)

    def _dropped(self, worker: Worker, channel: str) -> None:
        """The worker has the channel no more; unless a publisher of it is on its way, it is no home."""
        if self.home.get(channel) == worker.plan.index and channel not in self._publishes.values():
            del self.home[channel]

    def home_of(self, channel: str) -> Worker | None:
        worker = self._workers.get(self.home.get(channel, -1))
        return worker if worker is not None and worker.alive else None

    def choose(self, request: SessionRequest) -> Worker:
        """The worker that has the channel's source; a viewer of an edge goes where its party is, or where
        there
        is most room."""
        # A publisher that is here already replaces its own session.
        again = request.kind is SessionKind.WHIP and request.channel in self._publishes.values()
        counted = request.kind is not SessionKind.RELAY_OUT and not again
        if self._capacity is not None and counted and len(self._connections) >= self._capacity:
            raise ControlError(
                503, "node_full", "The node is full", f"It takes {self._capacity} connections."
            )
        alive = {index: worker for index, worker in self._workers.items() if worker.alive and worker.port}
        if not alive:
            raise ControlError(503, "no_worker", "The node has no worker running", "Try again in a moment.")
        home = self.home_of(request.channel)
        spread = self._role is Role.EDGE and request.kind is SessionKind.WHEP
        if home is not None and not spread:
            return home
        return alive[self._placement.choose(alive, request.party)]

    async def create_on(self, worker: Worker, request: SessionRequest) -> SessionAnswer:
        """Make a session on this worker."""
        self._placement.put(request.id, worker.plan.index, request.party)
        if request.kind is not SessionKind.RELAY_OUT:
            self._connections.add(request.id)
        new_home = request.kind is SessionKind.WHIP and request.channel not in self.home
        if request.kind is SessionKind.WHIP:
            self._publishes[request.id] = request.channel
            self.home[request.channel] = worker.plan.index  # from now on: a second one is to come here too
        try:
            wanted = request.model_dump(mode="json", exclude={"party"})
            answer = await self._ask(worker, {"op": "session", **wanted})
        except ControlError:
            self._placement.remove(request.id)
            self._forget(request.id)
            if new_home:
                self._dropped(worker, request.channel)
            raise
        return SessionAnswer(id=request.id, answer=answer["answer"], video_codec=answer["video_codec"])

    async def _ask(self, worker: Worker, message: Message) -> Message:
        try:
            answer = await worker.ask(message)
        except WorkerGone as error:
            raise ControlError(
                503, "worker_gone", "The node's worker is not there", f"{error}. Try again."
            ) from error
        if answer["ev"] == "problem":
            problem = answer["problem"]
            raise ControlError(problem["status"], problem["code"], problem["title"], problem["detail"])
        return answer

    async def ask_owner(self, session: str, message: Message) -> Message:
        """A request to the worker that has the session, and its answer."""
        index = self._placement.worker_of(session)
        worker = None if index is None else self._workers.get(index)
        if worker is None:
            raise ControlError(404, "no_such_session", "No such session on this node", session)
        return await self._ask(worker, message | {"id": session})

    async def close(self, sessions: list[str], reason: str) -> None:
        """End these; one that is nowhere here has ended."""
        of: defaultdict[int, list[str]] = defaultdict(list)
        for session in sessions:
            index = self._placement.worker_of(session)
            if index is not None:
                of[index].append(session)
        here = [(worker, of[index]) for index, worker in self._workers.items() if index in of]
        await asyncio.gather(
            *(self._ask(worker, {"op": "close", "ids": ids, "reason": reason}) for worker, ids in here)
        )

    async def inspect(self, session: str) -> SessionInside:
        """What is inside a session. All workers are asked: one's relay from another is known to it alone."""
        workers = [worker for worker in self._workers.values() if worker.alive]
        asked = (self._ask(worker, {"op": "inspect", "id": session}) for worker in workers)
        answers = await asyncio.gather(*asked, return_exceptions=True)
        refused = ControlError(404, "no_such_session", "No such session on this node", session)
        for worker, answer in zip(workers, answers, strict=True):
            if isinstance(answer, ControlError):
                refused = refused if answer.problem.status == 404 else answer
            elif isinstance(answer, BaseException):
                raise answer
            else:
                found = SessionInside.model_validate(answer["session"])
                return found.model_copy(update={"worker": worker.plan.index, "node": self.name or ""})
        raise refused

    async def ask_all(self, message: Message) -> None:
        workers = [worker for worker in self._workers.values() if worker.alive]
        await asyncio.gather(*(self._ask(worker, message) for worker in workers))
