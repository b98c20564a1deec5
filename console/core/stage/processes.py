"""Processes by their records: watch them, wait for their end, end them. Linux, by pidfd.

A pidfd is opened first and the record checked after: from then on pid reuse cannot put a stranger in its
place, so a signal reaches the recorded process or nobody.
"""

import asyncio
import os
import select
import signal
import time
from collections.abc import Iterable
from pathlib import Path

from controlplane.wire import processes as records
from controlplane.wire.processes import ProcessRecord

TERM_GRACE_S = 5.0  # what a process may take to end cleanly
KILL_GRACE_S = 2.0  # what the kernel may take to bury it


def open_process(record: ProcessRecord) -> int | None:
    """A pidfd of exactly the recorded process (the caller closes it); None if it has gone."""
    try:
        handle = os.pidfd_open(record.pid)
    except (ProcessLookupError, PermissionError):
        return None
    if records.alive(record):
        return handle
    os.close(handle)
    return None


async def wait_end(record: ProcessRecord) -> None:
    """Return when the recorded process has ended; at once when it has already."""
    handle = open_process(record)
    if handle is None:
        return
    loop = asyncio.get_running_loop()
    ended = loop.create_future()
    loop.add_reader(handle, lambda: None if ended.done() else ended.set_result(None))
    try:
        await ended
    finally:
        loop.remove_reader(handle)
        os.close(handle)


def wait_ended(handles: Iterable[int], timeout_s: float) -> set[int]:
    """Block until all have ended or the time is over; the pidfds of those that still live."""
    waiting = set(handles)
    poll = select.poll()
    for handle in waiting:
        poll.register(handle, select.POLLIN)
    deadline = time.monotonic() + timeout_s
    while waiting and (left := deadline - time.monotonic()) > 0:
        for handle, _ in poll.poll(left * 1000):
            poll.unregister(handle)
            waiting.discard(handle)
    return waiting


def _signal(handle: int, number: signal.Signals) -> None:
    try:
        signal.pidfd_send_signal(handle, number)
    except ProcessLookupError:
        pass


def end_processes(
    folder: Path,
    targets: Iterable[ProcessRecord],
    dependants: Iterable[ProcessRecord] = (),
    *,
    grace_s: float = TERM_GRACE_S,
) -> list[ProcessRecord]:
    """End `targets` (SIGTERM, after `grace_s` SIGKILL), then what is left of `dependants`, which end by
    themselves when their parent does (SIGKILL after a second). Blocks. Removes the records of the ended and
    returns those that would not end.
    """
    stubborn = _end(folder, targets, signal.SIGTERM, grace_s)
    return stubborn + _end(folder, dependants, None, 1.0)


def _end(
    folder: Path, targets: Iterable[ProcessRecord], first: signal.Signals | None, grace_s: float
) -> list[ProcessRecord]:
    targets = list(targets)
    handles = {handle: record for record in targets if (handle := open_process(record)) is not None}
    try:
        if first is not None:
            for handle in handles:
                _signal(handle, first)
        left = wait_ended(handles, grace_s)
        for handle in left:
            _signal(handle, signal.SIGKILL)
        left = wait_ended(left, KILL_GRACE_S)
        stubborn = [handles[handle] for handle in left]
    finally:
        for handle in handles:
            os.close(handle)
    for record in targets:
        if record not in stubborn:
            forget(folder, record)
    return stubborn


def forget(folder: Path, record: ProcessRecord) -> None:
    """Remove the record, unless the name has been given to another process in the meantime."""
    if any(other.name == record.name and other != record for other in records.read_all(folder)):
        return
    records.remove(folder, record.name)
