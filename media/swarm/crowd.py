"""A crowd in one process: viewers come at a steady pace, watch, and leave; it says how they fare.

Where each stays only so long, the next one takes its place at that very moment, whatever has become of it: a
server that is slow is not asked less often. Who has seen no picture by then has failed.

Each viewer has a socket of its own, as a browser has, connected to the edge's address once ICE has found it.
The kernel hands over what an edge sent at once in one read (UDP_GRO) and stamps it with the moment of its
arrival (SO_TIMESTAMPNS), so that a busy swarm does not take its own delay for the edge's. Who has something
to read is asked of a selector of our own, of which the event loop only hears that there is somebody: one of
its callbacks for each viewer, or a read too many, would cost as much as counting what came.
"""

import asyncio
import contextlib
import itertools
import os
import secrets
import selectors
import socket
import struct
import time
from collections import Counter
from collections.abc import AsyncGenerator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Protocol
from urllib.parse import urlsplit

from media.core.certificate import Certificate
from media.core.sdp import Agreed, LocalDescription, new_credentials
from media.core.session import Address, Session, SessionConfig
from media.drive.timers import Timers
from media.publisher.errors import PublishError
from media.swarm.second import LISTS, Second
from media.swarm.viewer import LATE_S, Viewer

SOL_UDP, UDP_GRO = 17, 104
SO_TIMESTAMPNS = 35
BUFFER = 65536
RECEIVE_BYTES = 1 << 20
JOINING_AT_ONCE = 64  # offers under way: more only wait in the server's queue
LEAVE_S = 2.0
MOVE_S = 5.0  # until there is a picture where it is moved to
BEAT_S = 0.05
BEATS_A_REPORT = 20  # a receiver report a second
_TIMESPEC = struct.Struct("@qq")
_INT = struct.Struct("@i")


class Door(Protocol):
    """Where viewers come in: how a session is asked for and given back."""

    url: str

    async def enter(self, local: LocalDescription) -> tuple[Agreed, str]:
        """What was agreed, and a ticket to leave by. Raises PublishError."""

    async def leave(self, ticket: str) -> None: ...

    async def close(self) -> None: ...


class Moves(Protocol):
    """How viewers learn that they are moved to another node, and come there."""

    def told(self, ticket: str) -> AsyncGenerator[str, None]:
        """The addresses that the viewer with this ticket is told to come to, until its session has ended."""

    async def enter_at(self, address: str, local: LocalDescription) -> tuple[Agreed, str]:
        """Door.enter, there. Raises PublishError."""


def own_addresses(url: str) -> list[str]:
    """Where a server at `url` reaches this machine; nothing is sent to find out."""
    parts = urlsplit(url)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((parts.hostname or "", parts.port or 443))
        except OSError:
            return ["127.0.0.1"]
        address: str = probe.getsockname()[0]
        return [address]


class Member:
    """A viewer, its socket and its session."""

    def __init__(self, crowd: "Crowd", number: int, now: float) -> None:
        """It comes now; when it is let in is another matter."""
        self.number = number
        self._crowd = crowd
        self._socket: socket.socket | None = None
        self._connected_to: Address | None = None
        self.viewer: Viewer | None = None
        self.came_at = now
        self.joining = True
        self.over = False  # its time is
        self.ticket: str | None = None
        self.failure = ""
        self.told_join = self.told_frame = False
        self.pictured = asyncio.Event()  # a whole key frame is here, or its session is over
        self._buffer = crowd.buffer

    async def join(self, address: str | None = None) -> None:
        """Ask for a session, at the door or at this address, and begin ICE. A failure is kept in words."""
        crowd = self._crowd
        loop = crowd.loop
        try:
            port = self._open()
            local = LocalDescription(
                new_credentials(os.urandom),
                crowd.certificate.fingerprint,
                [(address, port) for address in crowd.addresses],
                secrets.randbits(63),
            )
            if address is None or crowd.moves is None:
                agreed, self.ticket = await crowd.door.enter(local)
            else:
                agreed, self.ticket = await crowd.moves.enter_at(address, local)
        except PublishError as error:
            self.failure = error.what
            self._close_socket()
        except OSError as error:
            self.failure = f"no socket: {error.strerror or error}"
        else:
            config = SessionConfig.offered(agreed, local, crowd.certificate, os.urandom)
            now = loop.time()
            self.viewer = Viewer(Session(config, now), agreed, secrets.randbits(32), now, crowd.late_after)
            self._flush(now)
        self.joining = False

    def _open(self) -> int:
        """A socket on a port of its own, which is returned. Raises OSError."""
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
        for level, option in ((SOL_UDP, UDP_GRO), (socket.SOL_SOCKET, SO_TIMESTAMPNS)):
            with contextlib.suppress(OSError):  # works without, only dearer and less exact
                sock.setsockopt(level, option, 1)
        sock.bind(("0.0.0.0", 0))
        self._socket = sock
        self._crowd.watch(sock, self)
        port: int = sock.getsockname()[1]
        return port

    def read(self, now: float) -> bool:
        """One read of the socket: if there is more, the selector says so again. Whether there was any."""
        sock, viewer, view = self._socket, self.viewer, self._buffer
        if sock is None:
            return False
        try:
            size, ancillary, _, source = sock.recvmsg_into([view], 128)
        except OSError:  # an ICMP error of an earlier send, or nothing there after all
            return False
        if viewer is None:  # a check of a full ICE agent that is quicker than its answer: it comes again
            return True
        segment, at = size, now
        for level, kind, value in ancillary:
            if level == SOL_UDP:
                segment = _INT.unpack_from(value)[0]
            elif kind == SO_TIMESTAMPNS:
                seconds, nanoseconds = _TIMESPEC.unpack(value)
                at = min(seconds + nanoseconds / 1e9 - self._crowd.unix, now)
        if viewer.receive(view[:size], segment or size, source[:2], at):
            self._flush(now)
        return True

    def _flush(self, now: float) -> None:
        viewer, sock = self.viewer, self._socket
        if viewer is None or sock is None:
            return
        for data, to in viewer.outgoing:
            with contextlib.suppress(OSError):  # full, or refused: ICE and DTLS have timers for that
                if self._connected_to == to:
                    sock.send(data)
                elif self._connected_to is None:
                    sock.sendto(data, to)
        viewer.outgoing.clear()
        if viewer.remote is not None and viewer.remote != self._connected_to:
            sock.connect(viewer.remote)
            self._connected_to = viewer.remote
        if viewer.first_frame_at is not None or viewer.state == "closed":
            self.pictured.set()
        if viewer.state == "closed":
            self.failure = self.failure or viewer.reason
            self._close_socket()
        else:
            self._crowd.timers.set(self, viewer.next_timeout(), self._timeout)

    def _timeout(self, now: float) -> None:
        if self.viewer is not None:
            self.viewer.handle_timeout(now)
            self._flush(now)

    def report(self, now: float) -> None:
        if self.viewer is not None and self.viewer.state == "connected":
            self.viewer.report(now)
            self._flush(now)

    def ask(self, now: float) -> None:
        if self.viewer is not None and self.viewer.ask(now):
            self._flush(now)

    async def leave(self) -> None:
        if self.viewer is not None and self.viewer.state != "closed":
            self.viewer.close(self._crowd.loop.time())
            self._flush(self._crowd.loop.time())
            self.failure = ""
        self._close_socket()
        if self.ticket is not None:
            await self._crowd.door.leave(self.ticket)

    def _close_socket(self) -> None:
        self._crowd.timers.cancel(self)
        if self._socket is not None:
            self._crowd.forget(self._socket)
            self._socket.close()
            self._socket = None


class Crowd:
    """Ramps up, watches, leaves. `second()` says what happened since it was last called."""

    def __init__(
        self,
        door: Door,
        viewers: int,
        ramp: float,
        *,
        stay: float | None = None,
        late_after: float = LATE_S,
        moves: Moves | None = None,
    ) -> None:
        """`viewers`: how many at once; `ramp`: how many come in a second until they are all there.

        `stay`: seconds after which each leaves and another comes, at least viewers / ramp; None: all stay.
        `late_after`: seconds; see media.swarm.viewer.Frames. `moves`: followed, where it is given; that costs
        a connection a viewer.
        """
        self.loop = asyncio.get_running_loop()
        self.door = door
        self.viewers = viewers
        self.ramp = ramp
        self.stay = stay
        self.late_after = late_after
        self.moves = moves
        self.certificate = Certificate.generate(datetime.now(UTC))
        self.timers = Timers(self.loop)
        self.addresses = own_addresses(door.url)
        self.buffer = memoryview(bytearray(BUFFER))
        self.unix = time.time() - self.loop.time()
        self._selector = selectors.DefaultSelector()
        self.loop.add_reader(self._selector.fileno(), self._read)
        self.members: dict[int, Member] = {}  # by number, those whose time is not over
        self._asked = 0
        self._gone = Second()  # of those whose time is over
        self._reasons: Counter[str] = Counter()  # why those of them failed that did
        self._before = Second()
        self._beats = 0
        self._places = asyncio.Semaphore(JOINING_AT_ONCE)
        self._joining: set[asyncio.Task[None]] = set()
        self._leaving: set[asyncio.Task[None]] = set()
        self._following: dict[Member, asyncio.Task[None]] = {}

    def watch(self, sock: socket.socket, member: Member) -> None:
        """Have the member read whenever there is something in its socket."""
        self._selector.register(sock, selectors.EVENT_READ, member.read)

    def forget(self, sock: socket.socket) -> None:
        self._selector.unregister(sock)

    def _read(self) -> None:
        for key, _ in self._selector.select(0):
            key.data(self.loop.time())

    async def come(self) -> None:
        """All of them, at the pace of the ramp; returns when the last has asked for its session.

        Never, where they come and go.
        """
        start = self.loop.time()
        self.timers.set("beat", start + BEAT_S, self._beat)
        for number in range(self.viewers) if self.stay is None else itertools.count():
            wait = start + self._comes_after(number) - self.loop.time()
            if wait > 0:
                await asyncio.sleep(wait)
            self._let_come(Member(self, number, self.loop.time()))
        if self._joining:
            await asyncio.wait(self._joining)

    def _comes_after(self, number: int) -> float:
        """Seconds from the start on."""
        turn, place = divmod(number, self.viewers)
        return place / self.ramp + turn * (self.stay or 0.0)

    def _let_come(self, member: Member) -> None:
        self.members[member.number] = member
        self._asked += 1
        task = asyncio.create_task(self._join(member))
        self._joining.add(task)
        task.add_done_callback(self._joining.discard)
        if self.stay is not None:
            leaves_at = member.came_at + self.stay
            self.timers.set(
                ("stay", member.number), leaves_at, lambda at: self._part(self.members[member.number])
            )

    async def _join(self, member: Member) -> None:
        async with self._places:
            if member.number not in self.members:  # its time was over before it had its turn
                return
            await member.join()
        if member.over:
            await member.leave()
        else:
            self._follow(member)

    def _follow(self, member: Member) -> None:
        if self.moves is not None and member.ticket is not None and not member.over:
            task = asyncio.create_task(self._follow_moves(self.moves, member, member.ticket))
            self._following[member] = task
            task.add_done_callback(lambda _: self._following.pop(member, None))

    async def _follow_moves(self, moves: Moves, member: Member, ticket: str) -> None:
        """A member goes where it is told to, once it has a picture there: make before break."""
        moved = False
        async with contextlib.aclosing(moves.told(ticket)) as addresses:
            async for address in addresses:
                new = Member(self, member.number, self.loop.time())
                new.told_join = new.told_frame = True  # it has joined before
                try:
                    moved = await self._goes(member, new, address)
                finally:
                    if not moved:
                        await new.leave()
                if moved:
                    break
                self._gone.moves_failed += not member.over
        if moved:
            await member.leave()

    async def _goes(self, member: Member, new: Member, address: str) -> bool:
        """Whether the new session of a member has a picture in time, and is its session from now on."""
        await new.join(address)
        if new.failure:
            return False
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(MOVE_S):
                await new.pictured.wait()
        viewer = new.viewer
        if member.over or viewer is None or viewer.first_frame_at is None or viewer.state == "closed":
            return False
        self._replace(member, new, viewer, viewer.first_frame_at)
        return True

    def _replace(self, old: Member, new: Member, viewer: Viewer, at: float) -> None:
        """The new session has the picture: what the old one saw is put down."""
        while old.read(self.loop.time()):  # what has come to it already counts: we may be behind
            pass
        before = old.viewer
        gap = 0.0
        if before is not None and before.frames.last_at is not None:
            gap = max(0.0, at - before.frames.last_at)
            viewer.frames.gap = max(viewer.frames.gap, gap)
        old.failure = ""
        gone = self._gone
        self._count(old, gone)
        gone.connected = gone.playing = 0
        gone.moved += 1
        gone.move_gap_ms.append(_ms(gap))
        self.members[old.number] = new
        self._follow(new)

    def _part(self, member: Member) -> None:
        """A member's time is over: what it saw is put down, and it leaves."""
        member.over = True
        if (following := self._following.get(member)) is not None:
            following.cancel()
        del self.members[member.number]
        if not member.failure and (member.viewer is None or member.viewer.first_frame_at is None):
            member.failure = f"no picture within {self.stay:g} s"
        gone = self._gone
        self._count(member, gone)
        gone.connected = gone.playing = 0
        if member.failure:
            self._reasons[member.failure] += 1
        else:
            gone.left += 1
        if not member.joining:  # or it leaves when it has been let in
            task = asyncio.create_task(member.leave())
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)

    async def leave(self) -> None:
        """Everybody says good-bye."""
        for number in self.members:
            self.timers.cancel(("stay", number))
        following = list(self._following.values())
        for task in following:
            task.cancel()
        await asyncio.gather(*following, return_exceptions=True)
        if self._joining:  # a session that is being made is to be given back, too
            _, late = await asyncio.wait(self._joining, timeout=LEAVE_S)
            for task in late:
                task.cancel()
        places = asyncio.Semaphore(JOINING_AT_ONCE)

        async def go(member: Member) -> None:
            async with places:
                await member.leave()

        await asyncio.gather(*self._leaving, *(go(member) for member in self.members.values()))
        self.timers.close()
        self.loop.remove_reader(self._selector.fileno())
        self._selector.close()
        await self.door.close()

    def _beat(self, now: float) -> None:
        """Twenty times a second: who misses packets asks; a twentieth reports, so that not all do at once."""
        self.timers.set("beat", now + BEAT_S, self._beat)
        self._beats += 1
        for member in self.members.values():
            if member.number % BEATS_A_REPORT == self._beats % BEATS_A_REPORT:
                member.report(now)
            else:
                member.ask(now)

    def second(self) -> Second:
        """What happened since the last call; counts of packets and frames are of this time only."""
        now = self.loop.time()
        self.unix = time.time() - now
        gone = self._gone
        total = replace(gone, viewers=self._asked)
        for name in LISTS:  # these are of this time only
            setattr(gone, name, [])
        reasons = Counter(self._reasons)
        for member in self.members.values():
            if member.failure:
                reasons[member.failure] += 1
            self._count(member, total)
        total.reasons = dict(reasons.most_common(5))
        before, self._before = self._before, total
        return total.since(before)

    def _count(self, member: Member, total: Second) -> None:
        viewer = member.viewer
        total.failed += bool(member.failure)
        if viewer is None:
            return
        total.watched_s += viewer.watched(self.loop.time())
        total.bytes += viewer.bytes
        total.packets += viewer.datagrams
        total.nacks += viewer.nacks_sent
        total.unauthentic += viewer.session.stats(0.0).datagrams_dropped
        total.frames += viewer.frames.seen
        total.late_frames += viewer.frames.late
        for arrivals in viewer.arrivals:
            total.lost += arrivals.given_up
            total.recovered += arrivals.recovered
            total.duplicates += arrivals.duplicates
        if viewer.connected_at is not None:
            if not member.told_join:
                member.told_join = True
                total.join_ms.append(_ms(viewer.connected_at - member.came_at))
            if viewer.state == "connected":
                total.connected += 1
        if viewer.first_frame_at is not None:
            if not member.told_frame:
                member.told_frame = True
                total.first_frame_ms.append(_ms(viewer.first_frame_at - member.came_at))
            if viewer.state == "connected":
                total.playing += 1
                lateness, gap = viewer.frames.take_worst()
                total.lateness_ms.append(_ms(lateness))
                total.gap_ms.append(_ms(gap))
                latency = viewer.latency(self.unix)
                if latency is not None:
                    total.latency_ms.append(_ms(latency))


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 1)
