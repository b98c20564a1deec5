"""Drills: kill something on purpose, so that everybody knows before the show how the stage takes it.

    look      what it would strike, in numbers and words; refuses what makes no sense. Changes nothing
    begin     the same, with the journal's `drill.started` committed before anything dies
    finish    what whoever began it has measured becomes the journal's `drill.ended`

A node is ended by its provisioner, which then tells of its death as of any other: nothing here helps the
stage to recover. The stream manager kills itself only in that it says which process it is: it cannot be sure
that anybody would start it again; whoever asks for it makes sure of that, and does it.
"""

import os
from collections import Counter

import structlog

from controlplane.domain.drills import rules
from controlplane.domain.nodes.model import Node
from controlplane.domain.nodes.states import GONE, LEAVING
from controlplane.domain.streams.model import StreamState
from controlplane.errors import Conflict, NotFound
from controlplane.ports.provisioner import Provisioner
from controlplane.services.board import Board
from controlplane.services.books import MANAGER, Books, Change
from controlplane.services.words import spoken
from controlplane.wire import processes
from controlplane.wire.api import JournalEntry
from controlplane.wire.drills import Blast, Drill, DrillKind, DrillRequest, Outcome, kind_for
from controlplane.wire.nodes import NodeState, SessionKind

log = structlog.get_logger(__name__)

STARTED, ENDED = "drill.started", "drill.ended"
LOOKED_THROUGH = 1000  # entries after a beginning, for its end


class Drills:
    def __init__(self, books: Books, provisioner: Provisioner) -> None:
        self._books = books
        self._board: Board = books.board
        self._provisioner = provisioner
        self._killed: Node | None = None  # by the latest drill

    async def look(self, request: DrillRequest) -> Drill:
        """What it would do. Raises NotFound and Conflict as `begin` does."""
        running = {instance.node for instance in await self._provisioner.running()}
        return self._drill(request, running)

    async def begin(self, request: DrillRequest, actor: str) -> Drill:
        """Journal it and kill the node; of the stream manager only journal it, and say which process it is.

        Raises NotFound, and Conflict: for what is not in service, not ours to end, or while the stage is not
        whole (unless forced).
        """
        running = {instance.node for instance in await self._provisioner.running()}

        async def work(change: Change) -> Drill:
            drill = self._drill(request, running)  # of this moment: inside a change the board stands still
            subject = drill.node or MANAGER
            text = f"{actor} begins the drill {drill.kind.value}: {' '.join(drill.effect)}"
            data = {
                "kind": drill.kind.value,
                "node": drill.node,
                "blast": drill.blast.model_dump(mode="json"),
            }
            await change.note(STARTED, subject, text, actor=actor, data=data)
            return change.answer(drill.model_copy(update={"id": change.done.journal[-1].id}))

        drill = await self._books.change(work)
        if drill.node is not None:
            self._killed = self._board.nodes.get(drill.node)
            log.warning("a drill kills a node", node=drill.node, drill=drill.id)
            await self._provisioner.kill(drill.node)
        return drill

    async def finish(self, drill_id: int, outcome: Outcome, actor: str) -> JournalEntry:
        """What came of it, in the journal, once: asked again it gives the same entry. Raises NotFound."""

        async def work(change: Change) -> JournalEntry:
            begun = await change.tx.journal(drill_id - 1, 1)
            if not begun or begun[0].id != drill_id or begun[0].kind != STARTED:
                raise NotFound(
                    f"No drill {drill_id} was begun, or it is no longer in the journal.", code="no_drill"
                )
            for entry in await change.tx.journal(drill_id, LOOKED_THROUGH):
                if entry.kind == ENDED and entry.data.get("drill") == drill_id:
                    return change.answer(entry)
            kind, node = DrillKind(begun[0].data["kind"]), begun[0].data["node"]
            data = {"drill": drill_id, "kind": kind.value, "node": node, **outcome.model_dump(mode="json")}
            text = rules.told(kind, node, outcome)
            await change.note(ENDED, begun[0].subject, text, actor=actor, data=data)
            return change.answer(change.done.journal[-1])

        return await self._books.change(work)

    def _drill(self, request: DrillRequest, running: set[str]) -> Drill:
        kind = request.kind
        node = None if kind.role is None else self._chosen(request, running)
        if kind.role is None and request.node is not None:
            raise Conflict(
                f"{kind.value} kills the stream manager: it takes no node.",
                code="no_node_wanted",
                title="That drill is about no node",
            )
        if not request.force:
            self._check_whole()
        blast = self._of_manager() if node is None else self._of_node(kind, node)
        blast = blast.model_copy(update={"own": request.own})
        name = None if node is None else node.id
        drill = Drill(kind=kind, node=name, blast=blast, effect=rules.effect(kind, name, blast))
        if node is None:
            pid = os.getpid()
            return drill.model_copy(update={"pid": pid, "start_time": processes.start_time(pid)})
        return drill

    def _chosen(self, request: DrillRequest, running: set[str]) -> Node:
        """The node that is named, or the one of its role with most on it. Raises NotFound and Conflict."""
        role = request.kind.role
        if request.node is None:
            able = [
                node
                for node in self._board.nodes.values()
                if node.role is role and node.state is NodeState.IN_SERVICE and node.id in running
            ]
            if not able:
                raise Conflict(
                    f"No {role} that was launched here is in service: there is none to kill.",
                    code="no_node_in_service",
                    title=f"No {role} is in service",
                )
            return max(able, key=lambda node: (self._board.seats_on(node.id), node.id))
        node = self._board.nodes.get(request.node)
        if node is None or node.state in GONE:
            raise NotFound(
                f"There is no node {request.node}. showcaller nodes lists them.", code="no_such_node"
            )
        if node.role is not role:
            other = kind_for(node.role).value
            raise Conflict(
                f"{node.id} is an {node.role}, and {request.kind.value} kills an {role}: "
                f"showcaller drill {other} {node.id}",
                code="other_role",
                title="That drill is for another role",
            )
        if not node.managed:
            raise Conflict(
                f"{node.id} was started by hand: nobody here can kill it, or would start another in its "
                "place. Drill with a node that was launched here.",
                code="not_managed",
                title="The node was not launched here",
            )
        if node.state is not NodeState.IN_SERVICE or node.id not in running:
            state = "about to be given up" if node.state is NodeState.IN_SERVICE else spoken(node.state)
            raise Conflict(
                f"{node.id} is {state}: a drill kills what is in service.",
                code="not_in_service",
                title="The node is not in service",
            )
        return node

    def _check_whole(self) -> None:
        board = self._board
        killed = None if self._killed is None else board.nodes.get(self._killed.id)
        nodes = list(board.nodes.values())
        found = rules.not_whole(board.groups.values(), nodes, board.streams.values())
        if killed is not None and killed.state not in LEAVING:
            found.insert(0, f"{killed.id} was killed a moment ago")
        if found:
            raise Conflict(
                f"{'; '.join(found)}. Wait until that has passed, or insist with --force: then what is "
                "measured is not this drill's alone.",
                code="stage_not_whole",
                title="The stage is not whole just now",
            )

    def _of_node(self, kind: DrillKind, node: Node) -> Blast:
        board = self._board
        sessions = board.sessions_on(node.id)
        watched = Counter(
            it.channel for it in sessions if it.kind is SessionKind.WHEP and not board.is_second(it)
        )
        published = {it.channel for it in sessions if it.kind is SessionKind.WHIP}
        others = sorted(
            (
                it
                for it in board.nodes.values()
                if it.role is node.role and it.state is NodeState.IN_SERVICE and it.id != node.id
            ),
            key=lambda it: it.created_at,
        )
        room = sum(max(0, it.capacity - board.reserved_on(it.id)) for it in others)
        if kind is DrillKind.KILL_EDGE:
            channels, number = dict(watched), sum(watched.values())
        else:
            channels, number = {it: board.watchers(it) for it in published}, len(published)
        return Blast(
            viewers=sum(watched.values()),
            publishers=len(published),
            channels=rules.struck(channels, self._live()),
            others=[it.id for it in others],
            room=room,
            waiting=max(0, number - room),
            launch_s=rules.launch_s(node.role, board.nodes.values()),
            strangers=sorted(it for it in published if not self._is_ours(it)),
        )

    def _of_manager(self) -> Blast:
        board = self._board
        channels = {it: board.watchers(it) for it in board.streams}
        return Blast(
            viewers=board.watchers(),
            publishers=sum(1 for it in board.sessions.values() if it.kind is SessionKind.WHIP),
            channels=rules.struck(channels, self._live()),
        )

    def _live(self) -> list[str]:
        return [it.channel for it in self._board.streams.values() if it.state is StreamState.LIVE]

    def _is_ours(self, channel: str) -> bool:
        """Whether its publisher is a `showcaller publish`, which comes back by itself."""
        heard, stream = self._board.publishers.get(channel), self._board.streams.get(channel)
        return heard is not None and stream is not None and heard.jti == stream.jti
