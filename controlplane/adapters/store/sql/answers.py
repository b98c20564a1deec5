"""Answers that are kept for calls that may be sent again."""

from sqlalchemy import delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from controlplane.adapters.store import tables as t
from controlplane.adapters.store.sql.statements import Statements
from controlplane.domain.managers.model import KeptAnswer
from controlplane.ports.store import Taken


class AnswerStatements(Statements):
    async def kept_answer(self, key: str) -> KeptAnswer | None:
        a = t.answers.c
        row = await self._one(select(a.asked, a.answer).where(a.id == key))
        return None if row is None else KeptAnswer(**row._mapping)

    async def begin_answer(self, key: str, asked: str) -> None:
        row = {"id": key, "asked": asked, "answer": "", "at": await self.time()}
        try:
            await self._c.execute(insert(t.answers).values(**row))
        except IntegrityError as error:
            raise Taken(key) from error

    async def keep_answer(self, key: str, answer: str) -> None:
        await self._c.execute(update(t.answers).where(t.answers.c.id == key).values(answer=answer))

    async def purge_answers(self, before: float) -> None:
        await self._c.execute(delete(t.answers).where(t.answers.c.at < before))
