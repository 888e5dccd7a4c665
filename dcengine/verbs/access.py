"""Tokens: who may do what, and what an engine answers about them. The token itself is told once."""

from __future__ import annotations

from typing import Literal

import msgspec

TokenRole = Literal["admin", "submit", "join", "worker", "view"]


class TokenSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A token as somebody asks for it."""

    role: TokenRole
    project: str | None = None  #: needed for a worker: the one whose tasks it may lease
    nickname: str | None = None  #: who earns the credit of whoever uses it
    seconds: float | None = None  #: until it expires; None: never
    note: str = ""  #: for people: who has it, say


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


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """What whoever shows a token may do."""

    role: TokenRole
    project: str | None = None  #: the only one, for a worker
    nickname: str | None = None  #: who earns the credit
    id: int | None = None  #: of the token; None for the one that an engine makes at its start
