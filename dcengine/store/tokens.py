"""Tokens in the file: only their digests, so that who reads it can use none of them."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from ..errors import NotFound
from ..verbs import TokenRole, TokenSpec
from .names import FUNCTIONS, Names
from .values import ValueReads

COLUMNS = """
token.id, token.digest, token.role, token.project, project.name, token.nickname, token.note, token.created,
token.expires, token.revoked
"""
SELECT_TOKENS = f"""
SELECT {COLUMNS}
FROM token
LEFT JOIN project ON project.id = token.project
"""
INSERT_TOKEN = """
INSERT INTO token (digest, role, project, nickname, note, created, expires)
VALUES (?, ?, ?, ?, ?, ?, ?)
"""
REVOKE_TOKEN = """
UPDATE token
SET revoked = coalesce(revoked, ?)
WHERE id = ?
"""


class StoredToken(NamedTuple):
    """A token as it stands in the file; times are microseconds."""

    id: int
    digest: bytes
    role: TokenRole
    project: int | None
    project_name: str | None
    nickname: str | None
    note: str
    created: int
    expires: int | None
    revoked: int | None


@dataclass(slots=True)
class CreateToken:
    """Store the *digest* of a new token; the result is the `StoredToken`, or `NotFound` for an unknown project."""

    rank: ClassVar[int] = 1
    spec: TokenSpec
    digest: bytes
    at: int
    expires: int | None

    @classmethod
    def apply(cls, connection: sqlite3.Connection, names: Names, operations: Sequence[CreateToken]) -> list[Any]:
        return [operation._create(connection) for operation in operations]

    def _create(self, connection: sqlite3.Connection) -> StoredToken | NotFound:
        spec, project = self.spec, None
        if spec.project is not None:
            project = project_id(connection, spec.project)
            if project is None:
                return NotFound("project", spec.project)
        row = (self.digest, spec.role, project, spec.nickname, spec.note, self.at, self.expires)
        id = connection.execute(INSERT_TOKEN, row).lastrowid
        assert id is not None
        return _stored(connection, id)


@dataclass(slots=True)
class RevokeToken:
    """Revoke a token, if it is not yet; the result is the `StoredToken`, or `NotFound`."""

    rank: ClassVar[int] = 1
    id: int
    at: int

    @classmethod
    def apply(cls, connection: sqlite3.Connection, names: Names, operations: Sequence[RevokeToken]) -> list[Any]:
        return [operation._revoke(connection) for operation in operations]

    def _revoke(self, connection: sqlite3.Connection) -> StoredToken | NotFound:
        if not connection.execute(REVOKE_TOKEN, (self.at, self.id)).rowcount:
            return NotFound("token", self.id)
        return _stored(connection, self.id)


def project_id(connection: sqlite3.Connection, name: str) -> int | None:
    """Return the id of the project called *name*; the built-in one has no outside workers."""
    row = connection.execute(
        f"SELECT id FROM project WHERE name = ? AND is_deleted = 0 AND id <> {FUNCTIONS}", (name,)
    ).fetchone()
    return None if row is None else int(row[0])


def _stored(connection: sqlite3.Connection, id: int) -> StoredToken:
    return StoredToken(*connection.execute(f"{SELECT_TOKENS} WHERE token.id = ?", (id,)).fetchone())


class TokenReads(ValueReads):
    """Answers which tokens there are too."""

    async def tokens(self) -> list[StoredToken]:
        """Return every token, the oldest first."""
        return [StoredToken(*row) for row in await self._all(f"{SELECT_TOKENS} ORDER BY token.id")]
