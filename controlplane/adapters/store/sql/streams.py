"""Live streams, and those that have ended."""

from collections.abc import Collection
from dataclasses import asdict
from typing import Any

from sqlalchemy import bindparam, delete, insert, select, update
from sqlalchemy.engine import Row

from controlplane.adapters.store import tables as t
from controlplane.adapters.store.sql.statements import Statements, among, clip, filled
from controlplane.domain.streams.model import Stream, StreamState

_STREAM = select(t.streams).where(t.streams.c.channel == bindparam("of_channel"))
_LOCKED_STREAM = _STREAM.with_for_update()
_STREAMS = select(t.streams).where(t.streams.c.channel.in_(bindparam("of_channels", expanding=True)))
_STREAMS_TO_JOIN = _STREAMS.order_by(t.streams.c.channel).with_for_update(read=True)
_SAVE_STREAM = update(t.streams).where(t.streams.c.channel == bindparam("of_channel"))
_STREAMS_AMONG = among(select(t.streams), t.streams.c.channel)


class StreamStatements(Statements):
    async def stream(self, channel: str) -> Stream | None:
        row = await self._one(_LOCKED_STREAM if self._locks else _STREAM, of_channel=channel)
        return None if row is None else _as_stream(row)

    async def streams_to_join(self, channels: Collection[str]) -> list[Stream]:
        statement = _STREAMS_TO_JOIN if self._locks else _STREAMS
        return [_as_stream(row) for row in await self._rows(statement, of_channels=filled(list(channels)))]

    async def streams_on_air(self) -> list[Stream]:
        statement = select(t.streams).where(t.streams.c.state != StreamState.ENDED.value)
        return [_as_stream(row) for row in await self._rows(statement.order_by(t.streams.c.channel))]

    async def streams_among(self, channels: Collection[str]) -> list[Stream]:
        rows = await self._among(_STREAMS_AMONG, channels)
        return [_as_stream(row) for row in rows]

    async def save_stream(self, stream: Stream) -> None:
        values = asdict(stream) | {"state": stream.state.value}
        values["state_reason"] = clip(stream.state_reason, t.streams, "state_reason")
        for column in ("publisher", "video_codec"):
            if values[column] is not None:
                values[column] = clip(values[column], t.streams, column)
        if await self._changed(_SAVE_STREAM, of_channel=stream.channel, **values) == 0:
            await self._c.execute(insert(t.streams).values(**values))

    async def purge_streams(self, ended_before: float) -> None:
        s = t.streams.c
        ended = s.state == StreamState.ENDED.value
        await self._c.execute(delete(t.streams).where(ended, s.state_since < ended_before))


def _as_stream(row: Row[Any]) -> Stream:
    values = dict(row._mapping)
    return Stream(**values | {"state": StreamState(values["state"])})
