"""Tokens that were revoked before they expired."""

from sqlalchemy import bindparam, delete, insert, select

from controlplane.adapters.store import tables as t
from controlplane.adapters.store.sql.statements import Statements

_REVOKED = select(t.revoked_tokens.c.jti).where(t.revoked_tokens.c.jti == bindparam("of_jti"))


class TokenStatements(Statements):
    async def revoke(self, jti: str, channel: str, expires: float) -> None:
        if not await self.revoked(jti):
            await self._c.execute(insert(t.revoked_tokens).values(jti=jti, channel=channel, expires=expires))

    async def revoked(self, jti: str) -> bool:
        return await self._one(_REVOKED, of_jti=jti) is not None

    async def purge_revoked(self, expired_before: float) -> None:
        await self._c.execute(delete(t.revoked_tokens).where(t.revoked_tokens.c.expires < expired_before))
