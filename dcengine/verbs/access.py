"""Tokens: who may do what, and what an engine answers about them. The token itself is told once."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Protocol

import msgspec

TokenRole = Literal["admin", "submit", "join", "worker", "view"]
NICKNAME_LIMIT, NOTE_LIMIT = 200, 500  #: characters
LONGEST = 1e10  #: seconds until a token expires


def _in_schema(**limits: Any) -> msgspec.Meta:
    """Say limits in the schema alone: the engine checks them in words of its own."""
    return msgspec.Meta(extra_json_schema=limits)


class TokenSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A token as somebody asks for it."""

    role: TokenRole
    project: str | None = None  #: needed for a worker: the one whose tasks it may lease
    #: Who earns the credit of whoever uses it.
    nickname: Annotated[str, _in_schema(minLength=1, maxLength=NICKNAME_LIMIT)] | None = None
    #: Until it expires; None: never.
    seconds: Annotated[float, _in_schema(exclusiveMinimum=0, maximum=LONGEST)] | None = None
    note: Annotated[str, _in_schema(maxLength=NOTE_LIMIT)] = ""  #: for people: who has it, say


class TokenStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A token as people see it, without its secret."""

    id: int
    role: TokenRole
    created: float  #: Unix seconds
    state: Literal["valid", "expired", "revoked"]
    project: str | None = None
    nickname: str | None = None
    note: str = ""
    expires: float | None = None
    revoked: float | None = None


class NewToken(msgspec.Struct, frozen=True, kw_only=True):
    """A token that was made, with its secret, which nobody can read again."""

    token: str
    status: TokenStatus

    def __repr__(self) -> str:
        """Return it without the secret: what is shown ends up in logs and notebooks."""
        return f"NewToken(status={self.status!r})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("status", self.status)]


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """What whoever shows a token may do."""

    role: TokenRole
    project: str | None = None  #: the only one, for a worker
    nickname: str | None = None  #: who earns the credit
    id: int | None = None  #: of the token; None for the one that an engine makes at its start


def brought_with(submitter: str, grant: Grant | None) -> str:
    """Return who brings something: *submitter*, as they call themselves, and the token they have shown."""
    return submitter if grant is None or grant.id is None else f"{submitter} (token {grant.id})"


def mark_of(submitter: str) -> int | None:
    """Return the id of the token that *submitter* has shown, None for who needed none of his own."""
    found = re.search(r" \(token ([0-9]+)\)$", submitter)
    return int(found[1]) if found else None


class TokenVerbs(Protocol):
    """Questions about tokens."""

    async def create_token(self, spec: TokenSpec) -> NewToken:
        """Make a token. Its secret is in the answer, and nowhere else from then on."""
        ...

    async def tokens(self) -> list[TokenStatus]:
        """Return every token, also those that are good no more, the newest first."""
        ...

    async def revoke_token(self, id: int) -> TokenStatus:
        """Have token *id* be good for nothing from now on; revoked twice, it stays as it is."""
        ...
