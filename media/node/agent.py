"""The agent of a node: runs its workers, enrols, reports twice a second, serves the control endpoint.

It touches no packet. It outlives the stream manager: while that is away the media goes on and reports are
tried again each second. Its workers do not outlive it: each ends when its pipe closes.
"""

import asyncio
import contextlib
import errno
import hashlib
import hmac
import os
import secrets
import signal
import socket
import ssl
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import structlog
import uvicorn

from controlplane.wire import processes
from controlplane.wire.inside import SessionInside
from controlplane.wire.nodes import (
    EnrolAnswer,
    EnrolRequest,
    NodeOrder,
    Role,
    SessionAnswer,
    SessionKind,
    SessionPatch,
    SessionRequest,
    SessionRow,
    SessionsTold,
    SubscribeRequest,
)
from controlplane.wire.reaching import control_url
from media.core.certificate import Certificate
from media.node import metrics
from media.node.control import ControlError, application
from media.node.crew import Crew
from media.node.manager import ManagerAway, ManagerClient, ManagerRefused, ManagerUntrusted
from media.node.memory import resident_bytes
from media.node.reports import ReportBuilder
from media.node.trust import server_context
from media.node.workers import Launched, Message, Worker, WorkerFailed, WorkerGone

log = structlog.get_logger(__name__)

ENROL_WITHIN = 60.0  # seconds
REJECTED_FOR = 60.0  # a manager that knows us no more for that long has replaced us
LAST_REPORT_WITHIN = 0.5
CONTROL_KEPT_S = 60  # longer than the manager keeps an idle connection, so that it never finds one closed
SESSIONS_EVERY = 0.9  # every second report at the usual interval


class AgentFailed(Exception):
    """The node cannot start; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class AgentOptions:
    role: Role
    manager: str
    run_dir: Path
    token: str
    name: str | None
    addresses: tuple[str, ...]
    control_listen: str  # the control endpoint's address and port; 0: any free one
    control_port: int
    control_host: str  # at which the manager reaches it
    trust: ssl.SSLContext | None  # in the manager's certificate; None: as usual
    capacity: int | None


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: the agent decides when to end."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Agent:
    """One node. `run` returns when it has ended cleanly and raises AgentFailed when it could not start."""

    def __init__(self, options: AgentOptions, launched: list[Launched]) -> None:
        self._options = options
        self._manager = ManagerClient(options.manager, options.trust)
        self._certificate = Certificate.generate(datetime.now(UTC))  # of the control endpoint
        self._launched = launched
        self._crew = Crew(options.role, options.run_dir, options.name, options.capacity, self._subscribe)
        self._reports = ReportBuilder()
        self._enrolled: EnrolAnswer | None = None
        self._stop = asyncio.Event()
        self._stop_reason = ""
        self._started = time.time()
        self._rejected_since: float | None = None
        self._delivered = Counter({"delivered": 0, "unanswered": 0, "rejected": 0})  # reports
        self._refused: Counter[str] = Counter()  # sessions, by the code of our refusal
        self._metrics_sha256: str | None = None  # of the token that may read metrics, as the manager says
        self._sessions_due = 0.0
        self._told: tuple[float, list[SessionRow]] | None = None  # when (monotonic), and of which sessions

    # -- life

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, self.terminate, f"signal {number.name}")
        control = self._bind_control()
        serving_options = uvicorn.Config(
            application(self),
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            lifespan="off",
            ws="none",
            timeout_keep_alive=CONTROL_KEPT_S,
            timeout_graceful_shutdown=1,
        )
        serving_options.load()
        serving_options.ssl = server_context(self._certificate, self._options.run_dir)
        server = _Server(serving_options)
        serving = asyncio.create_task(server.serve(sockets=[control]))
        try:
            for launched in self._launched:
                self._crew.adopt(launched)
            await self._until_stop(self._start(control.getsockname()[1]))
            if self._enrolled is not None:
                await self._until_stop(self._report_forever(self._enrolled.report_interval_s))
            log.info("node_ends", reason=self._stop_reason)
        finally:
            self._stop.set()
            await self._crew.end()
            await self._last_report()
            server.should_exit = True
            await serving
            await self._manager.close()

    async def _until_stop(self, work: Any) -> None:
        """Run `work` to its end, or until the agent is told to stop."""
        task = asyncio.ensure_future(work)
        stop = asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait({task, stop}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stop.cancel()
            if not task.done():
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        if task.done() and not task.cancelled():
            task.result()

    def _bind_control(self) -> socket.socket:
        host, port = self._options.control_listen, self._options.control_port
        sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((host, port))
        except OSError as error:
            sock.close()
            if error.errno == errno.EADDRNOTAVAIL:
                raise AgentFailed(
                    f"this machine does not have the address {host}. Choose another --control-listen."
                ) from error
            raise AgentFailed(
                f"control port {port} cannot be used ({error.strerror}). Choose another --control-port."
            ) from error
        return sock

    async def _start(self, control_port: int) -> None:
        """Wait for the workers, then enrol."""
        try:
            await self._crew.ready()
        except (WorkerFailed, WorkerGone) as error:
            raise AgentFailed(str(error)) from error
        request = EnrolRequest(
            token=self._options.token,
            control_url=control_url(self._options.control_host, control_port),
            control_fingerprint=self._certificate.fingerprint,
            addresses=list(self._options.addresses),
            workers=self._crew.infos(),
            version=_version(),
            pid=os.getpid(),
            start_time=processes.start_time(os.getpid()) or 0.0,
        )
        self._enrolled = await self._enrol(request)
        log.info("enrolled", node=self._enrolled.node_id, workers=len(request.workers))
        self._crew.rename(self._enrolled.node_id)

    async def _enrol(self, request: EnrolRequest) -> EnrolAnswer:
        deadline = time.monotonic() + ENROL_WITHIN
        wait = 0.1
        while True:
            try:
                return await self._manager.enrol(request)
            except ManagerRefused as error:
                raise AgentFailed(
                    f"the stream manager refuses to enrol this node: {error}. Launch it with a new token."
                ) from error
            except ManagerUntrusted as error:
                raise AgentFailed(
                    f"the stream manager's certificate is not trusted: {error}. Name the authority that has "
                    "signed it by --manager-ca."
                ) from error
            except ManagerAway as error:
                if time.monotonic() + wait > deadline:
                    raise AgentFailed(
                        f"could not enrol within {ENROL_WITHIN:.0f} s: {error}. Is the manager running?"
                    ) from error
                log.warning("enrol_waits", reason=str(error), retry_s=wait)
                await asyncio.sleep(wait)
                wait = min(5.0, wait * 2)

    def terminate(self, reason: str) -> None:
        if not self._stop.is_set():
            self._stop_reason = reason
            self._crew.stop()
            self._stop.set()

    # -- reports and orders

    async def _report_forever(self, interval: float) -> None:
        next_at = time.monotonic()
        while True:
            await self._report_once()
            next_at = max(next_at + interval, time.monotonic())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(next_at - time.monotonic()):  # not wait_for: before 3.12 it can
                    await self._crew.died.wait()  # lose a cancellation

    async def _report_once(self) -> None:
        self._crew.died.clear()
        sessions = time.monotonic() >= self._sessions_due
        if sessions:
            self._sessions_due = time.monotonic() + SESSIONS_EVERY
        answers = await self._crew.reports(sessions=sessions)
        sent = list(self._crew.ended)
        report = self._reports.build(
            answers, self._crew.infos(), sent, time.monotonic(), time.time(), sessions=sessions
        )
        if report.sessions is not None:
            self._told = time.monotonic(), report.sessions
        try:
            answer = await self._manager.report(report)
        except ManagerAway as error:
            self._rejected_since = None
            self._delivered["unanswered"] += 1
            log.warning("report_not_delivered", reason=str(error))
            return
        except ManagerRefused as error:
            self._delivered["rejected"] += 1
            self._rejected(error)
            return
        self._rejected_since = None
        self._delivered["delivered"] += 1
        self._metrics_sha256 = answer.metrics_sha256
        del self._crew.ended[: len(sent)]
        for order in answer.orders:
            await self._obey(order)

    def _rejected(self, error: ManagerRefused) -> None:
        """The manager answers and does not know us: after a while that is final."""
        now = time.monotonic()
        if self._rejected_since is None:
            self._rejected_since = now
            log.error("report_rejected", reason=str(error), code=error.problem.code)
        elif now - self._rejected_since > REJECTED_FOR:
            self.terminate(f"the stream manager has rejected our reports for {REJECTED_FOR:.0f} s: {error}")

    async def _last_report(self) -> None:
        """Tell the manager what ended, if it listens: nothing is left but to go."""
        if self._enrolled is None:
            return
        report = self._reports.build([], [], self._crew.ended, time.monotonic(), time.time(), sessions=True)
        with contextlib.suppress(ManagerAway, ManagerRefused):
            await self._manager.report(report, timeout=LAST_REPORT_WITHIN)

    async def _obey(self, order: NodeOrder) -> None:
        log.info("order", kind=order.kind, channel=order.channel, session=order.session)
        with contextlib.suppress(ControlError):
            if order.kind == "terminate":
                self.terminate(order.reason or "ordered to")
            elif order.kind == "end_channel" and order.channel is not None:
                await self.end_channel(order.channel, order.reason or "the stream has ended")
            elif order.kind == "resubscribe" and order.channel is not None:
                await self.resubscribe(order.channel, order.reason or "ordered to")
            elif order.kind == "end_session" and order.session is not None:
                await self.end_sessions([order.session], order.reason or "ended by the stream manager")

    async def _subscribe(self, worker: Worker, message: Message) -> None:
        """A worker wants a channel: from a worker of ours that has it, or from whom the manager names."""
        channel, offer = message["channel"], message["offer"]
        reply: Message = {"channel": channel, "attempt": message["attempt"]}
        home = self._crew.home_of(channel)
        if home is not None and home is not worker:
            request = SessionRequest(
                id=secrets.token_urlsafe(18), kind=SessionKind.RELAY_OUT, channel=channel, offer=offer
            )
            with contextlib.suppress(ControlError):
                answer = await self._crew.create_on(home, request)
                worker.tell(reply | {"op": "subscribed", "session": request.id, "answer": answer.answer})
                return
        self._crew.home[channel] = worker.plan.index
        try:
            given = await self._manager.subscribe(SubscribeRequest(channel=channel, offer=offer))
        except (ManagerAway, ManagerRefused) as error:
            worker.tell(reply | {"op": "refused", "detail": str(error)})
            return
        worker.tell(reply | {"op": "subscribed", "session": given.session, "answer": given.answer})

    # -- what the control endpoint asks for (NodeControl)

    @property
    def control_secret(self) -> str | None:
        return None if self._enrolled is None else self._enrolled.control_secret

    def health(self) -> dict[str, Any]:
        return {
            "status": "ok",
            "node": self._crew.name,
            "role": self._options.role.value,
            "started_at": self._started,
            "sessions": self._crew.sessions,
            "workers": [info.model_dump() for info in self._crew.infos()],
        }

    def told(self) -> SessionsTold:
        if self._told is None:
            return SessionsTold(age_s=None)
        at, sessions = self._told
        return SessionsTold(age_s=time.monotonic() - at, sessions=sessions)

    async def create_session(self, request: SessionRequest) -> SessionAnswer:
        try:
            if self._stop.is_set():
                raise ControlError(503, "ending", "The node is ending", "Choose another node.")
            worker = self._crew.choose(request)
        except ControlError as error:
            self._refused[error.problem.code] += 1
            raise
        return await self._crew.create_on(worker, request)

    def may_read_metrics(self, token: str) -> bool:
        shown = hashlib.sha256(token.encode()).hexdigest()
        return self._metrics_sha256 is not None and hmac.compare_digest(shown, self._metrics_sha256)

    async def metrics(self) -> bytes:
        return metrics.text(
            metrics.NodeCounts(
                name=self._crew.name or "",
                role=self._options.role.value,
                version=_version(),
                started_at=self._started,
                capacity=self._options.capacity,
                cpu_s=time.process_time(),
                memory=resident_bytes(),
                workers_restarted=self._crew.restarted,
                reports=self._delivered,
                refused=self._refused,
                workers=await self._crew.counts(),
                up=self._crew.up,
            )
        )

    async def end_sessions(self, sessions: list[str], reason: str) -> None:
        await self._crew.close(sessions, reason)

    async def patch(self, session_id: str, fragment: str, if_match: str | None) -> SessionPatch | None:
        message = {"op": "patch", "fragment": fragment, "if_match": if_match}
        answer = await self._crew.ask_owner(session_id, message)
        if answer["ev"] != "restarted":
            return None
        return SessionPatch(etag=answer["etag"], fragment=answer["fragment"])

    async def inspect(self, session_id: str) -> SessionInside:
        return await self._crew.inspect(session_id)

    async def end_channel(self, channel: str, reason: str) -> None:
        self._crew.home.pop(channel, None)
        await self._crew.ask_all({"op": "end", "channel": channel, "reason": reason})

    async def resubscribe(self, channel: str, reason: str) -> None:
        await self._crew.ask_all({"op": "resubscribe", "channel": channel, "reason": reason})


def _version() -> str:
    try:
        return metadata.version("showcaller")
    except metadata.PackageNotFoundError:
        return "0"
