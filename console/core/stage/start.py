"""Bring a stage up: a supervisor that answers, a stream manager that listens, nodes in service."""

import asyncio
import ipaddress
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

from console.core import logs
from console.core.client import Client
from console.core.config import manager_config_file
from console.core.credentials import ensure_operator_token, token_sha256
from console.core.effects import as_left
from console.core.errors import ApiError, ConsoleError, Rejected, StageError, TimedOut, UsageError
from console.core.paths import Home
from console.core.stage.control import SupervisorGone, SupervisorStatus, ask, ask_status
from console.core.stage.finish import down
from console.core.stage.look import NEEDED, status
from console.core.stage.model import Place, Report, StageOptions, locate, silent
from console.core.units import show_state
from console.core.version import version
from controlplane.wire import processes as records
from controlplane.wire.api import NodeDetail, StageView
from controlplane.wire.nodes import NodeState, Role

POLL_S = 0.1
SUPERVISOR_START_S = 15.0
SETTLE_S = 1.0  # a stage that is being ended is gone by then
BUSY_S = 1.0  # how long whoever holds the lock may take to answer before we try to take it again
RETRY_S = 5.0

_children: list["subprocess.Popen[bytes]"] = []  # supervisors started by this very process, reaped when ended


class NodesKeepEnding(StageError):
    """The stream manager has given up launching nodes for a while."""


class HeldByBudget(StageError):
    """The stream manager launches nothing more: the budget of the stage is not there for it."""


async def up(options: StageOptions, *, report: Report = silent, timeout_s: float = 60.0) -> StageView:
    """Make sure the stage runs, and return when one origin and one edge are in service.

    Idempotent: a stage that is up already is left as it is; a stage whose supervisor has died gets a new one,
    which adopts what lives. Raises StageError (with the last lines of the log that explains it) when it does
    not come up, HeldByBudget when nothing may be launched, TimedOut when it takes longer than `timeout_s`.
    """
    require_linux()
    deadline = time.monotonic() + timeout_s
    home = options.home
    await asyncio.to_thread(check_options_alone, options)  # a name may have to be looked up
    await asyncio.to_thread(home.prepare)
    operator = await asyncio.to_thread(ensure_operator_token, home)
    if operator.notice:
        report(operator.notice)
    fresh = await _ensure_supervisor(options, token_sha256(operator.token), report)
    place = await _wait_manager(home, fresh, deadline, report)
    if fresh:
        await _say_as_left(place, operator.token, report)
    try:
        await _wait_nodes(home, place, operator.token, deadline, report)
    except NodesKeepEnding:
        if fresh:  # leave nothing behind of a stage that never was
            await down(home)
        raise
    view = (await status(home)).view
    if view.state != "up" and await _is_ending(home):  # a `stage down` has begun in the meantime
        raise _ended_meanwhile()
    return view


async def keep_supervised(home: Home, *, report: Report = silent) -> None:
    """Watch over the supervisor itself: when it dies and the stage lives, start one that adopts it.

    For as long as a console is open. Returns when the stage has ended; cancel it to stop watching.
    """
    from console.core.stage.processes import wait_end

    while True:
        alive = records.read_alive(home.processes)
        supervisor = next((record for record in alive if record.kind == "supervisor"), None)
        if supervisor is not None:
            await wait_end(supervisor)
            await asyncio.sleep(SETTLE_S)
        elif not alive:
            return
        else:
            try:
                token = await asyncio.to_thread(ensure_operator_token, home)
                await _ensure_supervisor(StageOptions(home=home), token_sha256(token.token), report)
            except ConsoleError as error:
                report(str(error))
                await asyncio.sleep(RETRY_S)


def require_linux() -> None:
    if sys.platform != "linux":
        raise StageError(
            "an embedded stage needs Linux", "Operate a stream manager elsewhere with --api and --token-file"
        )


def check_options_alone(options: StageOptions) -> None:
    """What can be said of the options without looking at any stage."""
    if (options.tls_cert is None) != (options.tls_key is None):
        raise UsageError("--tls-cert and --tls-key go together", "Give both, or neither")
    for path in (options.tls_cert, options.tls_key):
        if path is not None and not path.is_file():
            raise UsageError(f"there is no file {path}")
    check_listen(options.listen)
    check_announce(options.announce)


def check_listen(address: str | None) -> None:
    """UsageError when this names no machine at all; whether it is one of this machine's shows at the bind."""
    if address is None:
        return
    try:
        socket.getaddrinfo(address or "?", 0)
    except (OSError, UnicodeError):
        raise UsageError(
            f"--listen {address!r} is not an address", "Give one of this machine's own, or 0.0.0.0 for all"
        ) from None


def check_announce(addresses: Sequence[str]) -> None:
    """UsageError when a viewer could not send to one of these."""
    for address in addresses:
        if address == "metadata":  # each node finds out: see media/node/metadata.py
            continue
        try:
            usable = not (ip := ipaddress.ip_address(address)).is_unspecified and not ip.is_multicast
        except ValueError:
            usable = False
        if not usable:
            raise UsageError(
                f"--announce {address!r} is not the IP address of a machine",
                "Give the one viewers reach this machine by, or the word metadata where a cloud knows it",
            )


# --- the supervisor


async def _ensure_supervisor(options: StageOptions, operator_sha256: str, report: Report) -> bool:
    """One answers when this returns. True when nothing of the stage lived before."""
    home = options.home
    running = await _find_supervisor(home)
    if running is not None:
        _check_same(running.version, running.program, home)
        _check_options(options, running.place)
        if running.manager.state in ("failed", "waiting"):
            await ask(home, {"do": "retry"})
        return False
    alive = [record for record in records.read_alive(home.processes) if record.kind != "supervisor"]
    if alive:
        place = locate(home)
        if place is not None:
            _check_same(place.version, place.program, home)
            _check_options(options, place)
        report("the supervisor of this stage had died; a new one takes over what runs")
    deadline = time.monotonic() + SUPERVISOR_START_S
    while (answer := await _start_supervisor(options, operator_sha256)).get("busy"):
        if await _other_answers(home):  # another command was faster: its supervisor is ours too
            return False
        if time.monotonic() > deadline:
            raise _no_answer(home)
    if "error" in answer:
        error = answer["error"]
        raise StageError(str(error["what"]), str(error["next_step"]))
    for note in answer.get("notes", []):
        report(note)
    return not alive


async def _find_supervisor(home: Home) -> SupervisorStatus | None:
    """The one that answers; None when there is none. StageError when there is one that does not answer."""
    deadline = time.monotonic() + SUPERVISOR_START_S
    while True:
        try:
            found = await ask_status(home)
            if not found.stopping:
                return found
        except SupervisorGone:
            if not any(record.kind == "supervisor" for record in records.read_alive(home.processes)):
                return None
        except TimedOut as error:
            raise _no_answer(home) from error
        if time.monotonic() > deadline:
            raise _no_answer(home)
        await asyncio.sleep(POLL_S)


async def _other_answers(home: Home) -> bool:
    """Whether the supervisor that holds the lock answers soon; it may be just starting, or just ending.

    A `stage down` holds the lock for a moment as well: then nobody will answer.
    """
    deadline = time.monotonic() + BUSY_S
    while await _find_supervisor(home) is None:
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(POLL_S)
    return True


def _no_answer(home: Home) -> StageError:
    return StageError(
        "a supervisor of this stage runs but does not answer",
        "End it with `showcaller stage down`, then start again",
        details=logs.last_lines(home.log("supervisor"), 10),
    )


def _check_same(running_version: str, program: str, home: Home) -> None:
    if running_version != version():
        raise StageError(
            f"a stage of version {running_version} (from {program}) runs on {home.root}; this is {version()}",
            "End it with `showcaller stage down`, or set SHOWCALLER_HOME to another folder",
        )


def _check_options(options: StageOptions, place: Place | None) -> None:
    """A running stage is not moved: say so rather than pass over what was asked for."""
    if place is None:
        return
    asked: Sequence[tuple[str, Any, Any]] = (
        ("--port", options.port or None, place.port),
        ("--listen", options.listen, place.listen),
        ("--announce", list(options.announce) or None, place.announce),
        ("--tls-cert", options.tls_cert and str(options.tls_cert.absolute()), place.tls_cert),
        ("--tls-key", options.tls_key and str(options.tls_key.absolute()), place.tls_key),
    )
    for option, wanted, present in asked:
        if wanted is not None and wanted != present:
            raise StageError(
                f"the stage is up already, at {place.api}, and not with {option} as asked for now",
                "End it with `showcaller stage down` first",
            )


async def _start_supervisor(options: StageOptions, operator_sha256: str) -> dict[str, Any]:
    """Start one, and return the line in which it says how its start went.

    {"busy": True} when another one is there. Cancelled, it is on its way all the same; it holds the lock from
    its first moment, so a `down` that follows waits for it and ends it.
    """
    from console.core.stage.launch import launch_detached, manager_secrets, module_command
    from console.core.stage.lock import take_lock

    home = options.home
    words = ["--home", str(home.root)]
    if options.port is not None:
        words += ["--port", str(options.port)]
    if options.listen is not None:
        words += ["--listen", options.listen]
    if options.announce:
        words += ["--announce", *options.announce]
    if options.tls_cert is not None and options.tls_key is not None:
        words += [
            "--tls-cert",
            str(options.tls_cert.absolute()),
            "--tls-key",
            str(options.tls_key.absolute()),
        ]
    lock = take_lock(home)
    if lock is None:
        return {"busy": True}
    try:
        launched = launch_detached(
            home,
            "supervisor",
            None,  # it writes its own record
            module_command("console.core.stage.supervisor", "--lock", str(lock), *words),
            secrets=manager_secrets(operator_sha256),
            stdout=subprocess.PIPE,
            inherit=[lock],
        )
    finally:
        os.close(lock)  # ours; the supervisor has its own
    _children[:] = [child for child in _children if child.poll() is None] + [launched.process]
    pipe = launched.process.stdout
    assert pipe is not None
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
    try:
        line = await asyncio.wait_for(reader.readline(), SUPERVISOR_START_S)
        answer = json.loads(line)
    except (TimeoutError, ValueError) as error:
        launched.process.terminate()  # one that is only slow must not bring up what was said not to start
        raise StageError(
            "the supervisor did not start",
            "See `showcaller logs supervisor`",
            details=logs.last_lines(launched.log, 12, since=launched.log_start),
        ) from error
    finally:
        transport.close()
    return dict(answer)


# --- the stream manager and its nodes


async def _wait_manager(home: Home, fresh: bool, deadline: float, report: Report) -> Place:
    said = ""
    while True:
        found = await _find_supervisor(home)
        if found is None:
            raise _supervisor_ended(home)
        manager = found.manager
        if manager.state == "ready" and found.place is not None:
            return found.place
        if manager.state == "failed":
            if fresh:  # leave nothing behind of a stage that never was
                await down(home)
            what, _, rest = manager.error.partition(". ")
            raise StageError(
                f"the stream manager does not start: {what}",
                rest or "See `showcaller logs manager`",
                details=[line for line in manager.log if logs.error_words([line]) != manager.error],
            )
        if time.monotonic() > deadline:
            raise _late("the stream manager does not listen", "manager", home, manager.log)
        line = "waiting for the stream manager" + (f" ({manager.error})" if manager.error else "")
        if line != said:
            report(said := line)
        await asyncio.sleep(POLL_S)


async def _say_as_left(place: Place, token: str, report: Report) -> None:
    """How many nodes come up was decided in an earlier life of this stage: say so when they are many."""
    async with Client(place.local_api, token, local=True, timeout=5.0) as client:
        try:
            health, groups = await client.health(), await client.groups()
            oldest = await client.journal(after=0, limit=1)
        except ApiError:
            return  # who waits for the nodes says what is the matter
    if isinstance(health.started_at, float):
        said = as_left(groups, oldest[0].at if oldest else None, health.started_at)
        if said:
            report(said)


async def _wait_nodes(home: Home, place: Place, token: str, deadline: float, report: Report) -> None:
    said = ""
    nodes: list[NodeDetail] = []
    async with Client(place.local_api, token, local=True, timeout=5.0) as client:
        while True:
            trouble = ""
            try:
                nodes = await client.nodes()
            except Rejected as error:
                if error.status in (401, 403):
                    raise StageError(
                        "the running stage was started with another operator token",
                        "End it with `showcaller stage down`, then start again",
                    ) from error
                trouble = str(error)
            except ApiError as error:
                trouble = str(error)
                if await _find_supervisor(home) is None:  # nobody will start the manager again
                    raise _supervisor_ended(home) from error
            serving = {node.role for node in nodes if node.state is NodeState.IN_SERVICE}
            if all(role in serving for role in NEEDED):
                return
            for role in NEEDED:
                if not trouble and not any(node.role == role for node in nodes):
                    await _check_launches(client, home, role)
            line = trouble or "waiting for " + ", ".join(_waiting_for(nodes, serving))
            if time.monotonic() > deadline:
                late = [node.id for node in nodes if node.state is not NodeState.IN_SERVICE]
                name = late[0] if late and home.log(late[0]).exists() else "manager"
                raise _late(line, name, home, logs.last_lines(home.log(name), 12))
            if line != said:
                report(said := line)
            await asyncio.sleep(POLL_S)


async def _is_ending(home: Home) -> bool:
    try:
        return (await ask_status(home)).stopping
    except (SupervisorGone, TimedOut):
        return True


def _ended_meanwhile() -> StageError:
    return StageError("the stage was ended while it came up", "Bring it up again with `showcaller stage up`")


def _supervisor_ended(home: Home) -> StageError:
    if not records.read_alive(home.processes):
        return _ended_meanwhile()
    return StageError(
        "the supervisor ended while the stage came up",
        "Try `showcaller stage up` again",
        details=logs.last_lines(home.log("supervisor"), 12),
    )


async def _check_launches(client: Client, home: Home, role: Role) -> None:
    """None of a role is there: NodesKeepEnding when the manager has stopped launching them, HeldByBudget when
    it may not launch any.

    The latter leaves the manager running: what the stage costs can be looked at, and a node be added all the
    same.
    """
    try:
        entries, now = await client.journal(limit=50), await client.snapshot()
    except ApiError:
        return
    # the warning is no younger than the nodes beside it: it may be there because of one that has just begun
    if now.money is not None and now.money.warning and not any(node.role == role for node in now.nodes):
        held, _, remedy = now.money.warning.partition(". ")
        remedy = remedy.replace("in the manager's settings", f"in {manager_config_file(home)}")
        raise HeldByBudget(f"there is no {role}, and {held[:1].lower()}{held[1:]}", remedy)
    of_role = [entry for entry in entries if entry.subject.startswith(f"{role} ")]
    if not of_role or of_role[-1].kind != "fleet.stopped":
        return
    names = [entry.subject for entry in entries if entry.subject.startswith(f"{role}-")]
    name = names[-1] if names else str(role)
    raise NodesKeepEnding(
        f"every {role} ends before it serves",
        f"`showcaller logs {name}` says why",
        details=logs.last_lines(home.log(name), 12),
    )


def _waiting_for(nodes: list[NodeDetail], serving: set[Role]) -> list[str]:
    words: list[str] = []
    for role in NEEDED:
        if role in serving:
            continue
        of_role = [node for node in nodes if node.role == role]
        for node in of_role[-2:]:
            reason = f", {node.state_reason}" if node.state_reason else ""
            words.append(f"{node.id} ({show_state(node.state)}{reason})")
        if not of_role:
            words.append(f"an {role}")
    return words


def _late(what: str, log: str, home: Home, details: list[str]) -> TimedOut:
    return TimedOut(
        f"the stage is not up in time: {what}",
        f"It goes on starting; see `showcaller stage status` and `showcaller logs {log}`",
        details=details,
    )
