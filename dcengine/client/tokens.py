"""Questions about tokens."""

from __future__ import annotations

from ..connection import Connection
from ..verbs import NewToken, TokenSpec, TokenStatus


class AboutTokens(Connection):
    """Makes, lists and revokes tokens."""

    async def create_token(self, spec: TokenSpec) -> NewToken:
        return await self._post(NewToken, "v1/tokens", value=spec)

    async def tokens(self) -> list[TokenStatus]:
        return await self._get(list[TokenStatus], "v1/tokens")

    async def revoke_token(self, id: int) -> TokenStatus:
        return await self._post(TokenStatus, f"v1/tokens/{id}/revoke")
