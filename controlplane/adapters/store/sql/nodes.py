"""Nodes and their groups."""

from collections.abc import Collection
from dataclasses import asdict
from typing import Any

from sqlalchemy import and_, bindparam, delete, insert, or_, select, update
from sqlalchemy.engine import Row
from sqlalchemy.exc import IntegrityError

from controlplane.adapters.store import tables as t
from controlplane.adapters.store.sql.statements import Statements, among, clip
from controlplane.domain.nodes.model import Group, Node
from controlplane.ports.store import Taken
from controlplane.wire.fleet import Policy
from controlplane.wire.nodes import NodeState, Role

_NODE_COLUMNS = [column for column in t.nodes.c if column.name != "reserved"]
_TERMINATED = NodeState.TERMINATED.value

_NODE = select(*_NODE_COLUMNS).where(t.nodes.c.id == bindparam("of_id"))
_LOCKED_NODE = _NODE.with_for_update()
_SAVE_NODE = update(t.nodes).where(t.nodes.c.id == bindparam("of_id"))
_NODES_AMONG = among(select(*_NODE_COLUMNS), t.nodes.c.id)


class NodeStatements(Statements):
    async def node(self, node_id: str) -> Node | None:
        row = await self._one(_LOCKED_NODE if self._locks else _NODE, of_id=node_id)
        return None if row is None else _as_node(row)

    async def nodes(self) -> list[Node]:
        statement = (
            select(*_NODE_COLUMNS)
            .where(t.nodes.c.state != _TERMINATED)
            .order_by(t.nodes.c.created_at, t.nodes.c.id)
        )
        return [_as_node(row) for row in await self._rows(statement)]

    async def nodes_since(self, at: float) -> list[Node]:
        n = t.nodes.c
        found = or_(n.state != _TERMINATED, n.state_since > at)
        return [_as_node(row) for row in await self._rows(select(*_NODE_COLUMNS).where(found))]

    async def nodes_among(self, ids: Collection[str]) -> list[Node]:
        return [_as_node(row) for row in await self._among(_NODES_AMONG, ids)]

    async def node_by_enrolment(self, token_hash: str) -> Node | None:
        statement = select(*_NODE_COLUMNS).where(t.nodes.c.enrol_hash == token_hash)
        row = await self._one(statement.with_for_update() if self._locks else statement)
        return None if row is None else _as_node(row)

    async def node_by_credential(self, credential_hash: str) -> Node | None:
        row = await self._one(select(*_NODE_COLUMNS).where(t.nodes.c.credential_hash == credential_hash))
        return None if row is None else _as_node(row)

    async def add_node(self, node: Node) -> None:
        try:
            await self._c.execute(insert(t.nodes).values(**_node_values(node), reserved=0))
        except IntegrityError as error:
            raise Taken(node.id) from error

    async def save_node(self, node: Node) -> None:
        await self._changed(_SAVE_NODE, of_id=node.id, **_node_values(node))

    async def forget_terminated(self) -> None:
        await self._c.execute(delete(t.nodes).where(t.nodes.c.state == _TERMINATED))

    async def purge_nodes(self, terminated_before: float) -> None:
        n = t.nodes.c
        await self._c.execute(
            delete(t.nodes).where(n.state == _TERMINATED, n.state_since < terminated_before)
        )

    async def fault_times(self, role: Role, region: str, since: float) -> list[float]:
        n = t.nodes.c
        statement = select(n.faulted_at).where(
            and_(n.role == role.value, n.region == region, n.managed.is_(True), n.faulted_at > since)
        )
        return [row.faulted_at for row in await self._rows(statement)]

    async def groups(self) -> list[Group]:
        statement = select(t.node_groups).order_by(t.node_groups.c.role, t.node_groups.c.region)
        return [_as_group(row) for row in await self._rows(statement)]

    async def group(self, role: Role, region: str) -> Group | None:
        g = t.node_groups.c
        statement = select(t.node_groups).where(g.role == role.value, g.region == region)
        row = await self._one(statement.with_for_update() if self._locks else statement)
        return None if row is None else _as_group(row)

    async def save_group(self, group: Group) -> None:
        g = t.node_groups.c
        policy = None if group.policy is None else group.policy.model_dump_json()
        values = {column.name: getattr(group, column.name) for column in g}
        values |= {"role": group.role.value, "policy": policy}
        where = and_(g.role == group.role.value, g.region == group.region)
        if await self._changed(update(t.node_groups).where(where).values(**values)) == 0:
            await self._c.execute(insert(t.node_groups).values(**values))


def _as_node(row: Row[Any]) -> Node:
    values = dict(row._mapping)
    return Node(**values | {"role": Role(values["role"]), "state": NodeState(values["state"])})


def _as_group(row: Row[Any]) -> Group:
    values = dict(row._mapping)
    policy = None if values["policy"] is None else Policy.model_validate_json(values["policy"])
    return Group(**values | {"role": Role(values["role"]), "policy": policy})


def _node_values(node: Node) -> dict[str, Any]:
    values = asdict(node) | {"role": node.role.value, "state": node.state.value}
    values["state_reason"] = clip(node.state_reason, t.nodes, "state_reason")
    return values
