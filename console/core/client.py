"""The stream manager's HTTP API as Python calls: one method a call, nothing else.

Every method raises `Unreachable` (nobody answers), `TimedOut`, `Rejected` (the manager said no; see its
`.problem`) and nothing else. A client is bound to one stage and one token:

    async with Client(api, token) as client:
        nodes = await client.nodes()

How each gets there, and where there are several managers to which of them, is calls.py.
"""

from collections.abc import Sequence
from urllib.parse import quote

from console.core.calls import Calls
from console.core.errors import Rejected
from controlplane.wire.api import (
    DrainRequest,
    DrainView,
    EnrolmentRequest,
    EnrolmentView,
    FleetAdd,
    GroupView,
    JournalEntry,
    NodeDetail,
    NodeInside,
    Snapshot,
    StopView,
    StreamDetail,
    TokenRequest,
    TokenRevoke,
    TokenView,
)
from controlplane.wire.base import Message, Problem
from controlplane.wire.drills import Drill, DrillRequest, Outcome
from controlplane.wire.events import EventCancel, EventChanges, EventRequest, EventView, PreflightView
from controlplane.wire.fleet import (
    DecisionView,
    Evaluation,
    Policy,
    PolicyView,
    Question,
    Span,
    WhatIf,
    WhatIfView,
)
from controlplane.wire.history import HistoryView
from controlplane.wire.inside import SessionInside
from controlplane.wire.money import CostView
from controlplane.wire.nodes import Role

SIMULATION_S = 70.0  # the manager gives one up after a minute


class Health(Message):
    """`GET /api/v1/health`, open to everyone."""

    status: str
    version: str
    started_at: float | str | None = None
    stage: str | None = None


class Client(Calls):
    """What a stage can be asked, and told."""

    # --- what is there

    async def health(self) -> Health:
        return await self._call("GET", "/api/v1/health", Health)

    async def snapshot(self) -> Snapshot:
        return await self._call("GET", "/api/v1/snapshot", Snapshot)

    async def nodes(self) -> list[NodeDetail]:
        return await self._call("GET", "/api/v1/nodes", list[NodeDetail])

    async def node(self, node: str) -> NodeInside:
        """What is inside one node: its workers, sessions and streams, as it reported them last."""
        return await self._call("GET", f"/api/v1/nodes/{_part('node', node)}", NodeInside)

    async def inspect(self, session: str, node: str | None = None) -> SessionInside:
        """What is inside a session, asked of its node now; the beginning of its id does."""
        where = "" if node is None else f"/nodes/{_part('node', node)}"
        return await self._call("GET", f"/api/v1{where}/sessions/{_part('session', session)}", SessionInside)

    async def groups(self) -> list[GroupView]:
        return await self._call("GET", "/api/v1/groups", list[GroupView])

    async def streams(self) -> list[StreamDetail]:
        return await self._call("GET", "/api/v1/streams", list[StreamDetail])

    async def stream(self, channel: str) -> StreamDetail | None:
        """The stream of a channel, None when it is not on air."""
        return next((stream for stream in await self.streams() if stream.channel == channel), None)

    async def journal(self, after: int | None = None, limit: int = 200) -> list[JournalEntry]:
        """Entries with an id greater than `after`, oldest first; without `after` the latest `limit`."""
        query = {"limit": str(limit)} if after is None else {"after": str(after), "limit": str(limit)}
        return await self._call("GET", "/api/v1/journal", list[JournalEntry], query=query)

    async def policy(self, group: str, *, usual: bool = False) -> PolicyView:
        """When a group grows and shrinks. It is named by its id, or its role where there is one of it. With
        `usual`, where it has no policy, what one begins with."""
        path = f"/api/v1/groups/{_part('group', group)}/policy"
        return await self._call("GET", path, PolicyView, query={"usual": "true"} if usual else None)

    async def check_policy(self, group: str, changes: Policy) -> PolicyView:
        """What `set_policy` would make of it, or how it would be refused; nothing is changed."""
        path = f"/api/v1/groups/{_part('group', group)}/policy"
        return await self._call("PATCH", path, PolicyView, changes, query={"check": "true"}, changes=False)

    async def evaluate(self, group: str, question: Question) -> Evaluation:
        """What its policy would do; nothing is changed."""
        path = f"/api/v1/groups/{_part('group', group)}/evaluate"
        return await self._call("POST", path, Evaluation, question, changes=False)

    async def what_if(self, group: str, question: WhatIf) -> WhatIfView:
        """How its policy, and a changed one, would carry a crowd; nothing is changed."""
        path = f"/api/v1/groups/{_part('group', group)}/whatif"
        return await self._call("POST", path, WhatIfView, question, timeout_s=SIMULATION_S, changes=False)

    async def history(self, group: str, span: Span) -> HistoryView:
        """The recorded load of a group."""
        path = f"/api/v1/groups/{_part('group', group)}/history"
        query = {name: repr(value) for name, value in span.model_dump(exclude_none=True).items()}
        return await self._call("GET", path, HistoryView, query=query, timeout_s=SIMULATION_S)

    async def decisions(self, group: str | None, limit: int) -> list[DecisionView]:
        """What policies did, or wanted and were held back from, newest first."""
        query = {"limit": str(limit)} | ({} if group is None else {"group": group})
        return await self._call("GET", "/api/v1/decisions", list[DecisionView], query=query)

    async def look_at_drill(self, request: DrillRequest) -> Drill:
        """What a drill would strike; Rejected with the reason where it would be refused."""
        query = {"force": "true"} if request.force else {}
        query |= {} if request.node is None else {"node": request.node}
        return await self._call("GET", f"/api/v1/drills/{request.kind.value}", Drill, query=query)

    async def events(self, *, past: bool = False) -> list[EventView]:
        """What is on, to come, and was over lately; with `past` everything that is kept."""
        return await self._call(
            "GET", "/api/v1/events", list[EventView], query={"past": "true"} if past else None
        )

    async def event(self, event: str) -> EventView:
        """One, by its name, its title, or how that begins."""
        return await self._call("GET", f"/api/v1/events/{_part('event', event)}", EventView)

    async def cost(self, span: Span | None = None, *, event: str | None = None) -> CostView:
        """What the stage costs now, today and this month; and in a time, or of an event."""
        query = {} if span is None else {k: repr(v) for k, v in span.model_dump(exclude_none=True).items()}
        if event is not None:
            query["event"] = event
        return await self._call("GET", "/api/v1/cost", CostView, query=query)

    # --- what acts

    async def add_event(self, asked: EventRequest) -> EventView:
        return await self._call("POST", "/api/v1/events", EventView, asked)

    async def edit_event(self, event: str, changes: EventChanges) -> EventView:
        """Change what is said of it, and leave the rest."""
        return await self._call("PATCH", f"/api/v1/events/{_part('event', event)}", EventView, changes)

    async def preflight(self, event: str) -> PreflightView:
        """Whether it can begin, as far as the manager knows."""
        path = f"/api/v1/events/{_part('event', event)}/preflight"
        return await self._call("POST", path, PreflightView, changes=False)

    async def cancel_event(self, event: str, reason: str) -> EventView:
        path = f"/api/v1/events/{_part('event', event)}/cancel"
        return await self._call("POST", path, EventView, EventCancel(reason=reason))

    async def begin_drill(self, request: DrillRequest) -> Drill:
        """Kill a node on purpose; of the stream manager it only says which process to kill."""
        return await self._call("POST", "/api/v1/drills", Drill, request)

    async def finish_drill(self, drill: int, outcome: Outcome) -> JournalEntry:
        """Write down what came of it; the entry of the journal. Asked again, it is the same entry."""
        return await self._call("POST", f"/api/v1/drills/{drill}/outcome", JournalEntry, outcome)

    async def set_policy(self, group: str, changes: Policy) -> PolicyView:
        """Change the fields of `changes` that are set, and leave the rest."""
        path = f"/api/v1/groups/{_part('group', group)}/policy"
        return await self._call("PATCH", path, PolicyView, changes)

    async def clear_policy(self, group: str) -> None:
        """From now on its nodes are added and ended by hand."""
        await self._send("DELETE", f"/api/v1/groups/{_part('group', group)}/policy")

    async def fleet_add(
        self,
        role: Role,
        region: str | None = None,
        *,
        over_budget: bool = False,
        over_policy: bool = False,
    ) -> DrainView:
        """One more node of this role; returns when it has been asked for, not when it serves."""
        request = FleetAdd(role=role, region=region, over_budget=over_budget, over_policy=over_policy)
        return await self._call("POST", "/api/v1/fleet", DrainView, request)

    async def drain(
        self, node: str, deadline_s: float | None = None, channels: Sequence[str] = ()
    ) -> DrainView:
        """No new connections on the node, and its viewers are moved; it ends when it is empty or the deadline
        passes.

        Without a deadline: the policy's, 60 s without one; a node that drains already keeps the one it has.
        Rejected with `last_edge`, or `last_origin`, unless `channels` names all that would have none left.
        """
        path = f"/api/v1/nodes/{_part('node', node)}/drain"
        wanted = DrainRequest(deadline_s=deadline_s, channels=list(channels))
        return await self._call("POST", path, DrainView, wanted)

    async def undrain(self, node: str) -> DrainView:
        """Back to in service."""
        return await self._call("DELETE", f"/api/v1/nodes/{_part('node', node)}/drain", DrainView)

    async def stop_stream(self, channel: str) -> StopView:
        """End a broadcast wherever it was started, so that it stays ended."""
        return await self._call("DELETE", f"/api/v1/streams/{_part('channel on air', channel)}", StopView)

    async def invite_node(self, role: Role, ttl_s: float) -> EnrolmentView:
        """A one-use token for a node that is started by hand, within `ttl_s` seconds."""
        request = EnrolmentRequest(role=role, ttl_s=ttl_s)
        return await self._call("POST", "/api/v1/enrolments", EnrolmentView, request)

    async def create_token(self, channel: str, ttl_s: float = 3600.0) -> TokenView:
        """A publish token for one channel."""
        request = TokenRequest(channel=channel, ttl_s=ttl_s)
        return await self._call("POST", "/api/v1/tokens", TokenView, request)

    async def revoke_token(self, channel: str, token: str, why: str) -> None:
        """Take a publish token back that is not needed; `why` goes into the journal."""
        request = TokenRevoke(channel=channel, token=token, why=why)
        await self._send("POST", "/api/v1/tokens/revoke", request)


def _part(kind: str, name: str) -> str:
    """A name as a part of a path. Rejected where it cannot be one: then nothing is called so."""
    if not name.strip() or "/" in name or name in (".", ".."):
        listed = "showcaller " + {"event": "event list", "group": "fleet groups"}.get(
            kind, f"{kind.split()[0]}s"
        )
        title, detail = f"there is no {kind} {name!r}", f"`{listed}` lists what there is"
        raise Rejected(Problem(code="no_such_name", title=title, detail=detail, status=404))
    return quote(name, safe="")
