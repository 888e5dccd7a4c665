"""Tokens: all of them in memory, by their digest, so that a request is judged without a look into the file."""

from __future__ import annotations

import logging
import math
import secrets
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple, get_args

from ..cluster import ClusterSettings
from ..errors import InvalidOption
from ..store import now
from ..store.tokens import CreateToken, RevokeToken, StoredToken
from ..verbs import Grant, NewToken, TokenRole, TokenSpec, TokenStatus
from ..verbs.access import LONGEST, NICKNAME_LIMIT, NOTE_LIMIT
from .put_values import PutValues

logger = logging.getLogger(__name__)

OWNER = Grant(role="admin")  #: what the token allows that an engine makes at its start
ENDED_KNOWN = 1_000  #: tokens that are good no more, the newest, that are listed; all of them stay in the file
EARNING = ("admin", "worker", "join")  #: roles whose holders do tasks, or bring workers that do


class Known(NamedTuple):
    """A token, and what it allows as long as it is valid."""

    stored: StoredToken
    grant: Grant

    def is_valid(self) -> bool:
        return self.stored.revoked is None and (self.stored.expires is None or now() < self.stored.expires)


class Tokens(PutValues):
    """Makes tokens, revokes them, and says what whoever shows one may do."""

    def __init__(self, db: Path, settings: ClusterSettings, blobs: str | None = None) -> None:
        super().__init__(db, settings, blobs)
        self._tokens: dict[bytes, Known] = {}  #: by digest
        self._next_token_look = 2 * ENDED_KNOWN
        self._owners = b""  #: the digest of the token that whoever started this engine has

    # ---- verbs -----------------------------------------------------------------------------

    async def create_token(self, spec: TokenSpec) -> NewToken:
        """Make a token; it is good when this returns, and nobody can read it again.

        Raises `InvalidOption`, and `NotFound` for an unknown project.
        """
        check_token(spec)
        secret, at = secrets.token_urlsafe(32), now()
        expires = None if spec.seconds is None else at + int(spec.seconds * 1_000_000)
        made: StoredToken = await self._submit(CreateToken(spec, _digest(secret), at, expires), 0, self._know)
        logger.info("token %d was made: %s", made.id, made.role)
        return NewToken(token=secret, status=_status(made))

    async def tokens(self) -> list[TokenStatus]:
        """Return every token that is good, and the newest of those that are not; the newest first."""
        return sorted((_status(known.stored) for known in list(self._tokens.values())), key=lambda each: -each.id)

    async def revoke_token(self, id: int) -> TokenStatus:
        """Have token *id* be good for nothing from now on; raises `NotFound`."""
        status = _status(await self._submit(RevokeToken(id, now()), 0, self._know))
        logger.info("token %d was revoked", id)
        return status

    def trust(self, token: str) -> None:
        """Let whoever shows *token* do everything, as long as this engine runs; it is not kept in the file."""
        self._owners = _digest(token)

    # ---- asked for each request, also from other threads -------------------------------------

    def grant_of(self, token: str) -> Grant | None:
        """Return what *token* allows, None for an unknown, expired or revoked one."""
        digest = _digest(token)
        if digest == self._owners:
            return OWNER
        known = self._tokens.get(digest)
        return known.grant if known is not None and known.is_valid() else None

    def is_open(self, project: str | None = None) -> bool:
        """Tell whether anybody may lease tasks of *project*, or of some project, without a token."""
        return self._stages.is_open(project)

    def project_of_lease(self, lease: str) -> str | None:
        """Return the project whose task is held under the token of a *lease*; None if none is."""
        held = self._leases.get(lease)
        return None if held is None else self._stages.project_of(held.stage.id)

    # ---- what is known -----------------------------------------------------------------------

    async def _load_tokens(self) -> None:
        for stored in await self._store.reads.tokens():
            self._know(stored)

    def _know(self, stored: StoredToken) -> None:
        grant = Grant(role=stored.role, project=stored.project_name, nickname=stored.nickname, id=stored.id)
        self._tokens[stored.digest] = Known(stored, grant)
        if len(self._tokens) >= self._next_token_look:
            self._forget_ended_tokens()

    def _forget_ended_tokens(self) -> None:
        """Know nothing more of the tokens that were good once, but for the newest: a token for each visit adds up."""
        ended = sorted((known.stored.id, digest) for digest, known in self._tokens.items() if not known.is_valid())
        for _, digest in ended[:-ENDED_KNOWN]:
            del self._tokens[digest]
        self._next_token_look = 2 * ENDED_KNOWN + len(self._tokens)

    def _forget_tokens_of(self, project: int) -> None:
        """Know nothing more of the tokens that were good for a deleted *project* alone."""
        gone = [digest for digest, known in self._tokens.items() if known.stored.project == project]
        for digest in gone:
            del self._tokens[digest]


def check_token(spec: TokenSpec) -> None:
    """Raise `InvalidOption` for a token that cannot be made."""
    if spec.role not in get_args(TokenRole):
        raise InvalidOption("role", repr(spec.role)[:100], f"one of {', '.join(get_args(TokenRole))}")
    if spec.role == "worker" and spec.project is None:
        raise InvalidOption("project", "missing", "the name of the one whose tasks the worker may lease")
    if spec.role != "worker" and spec.project is not None:
        raise InvalidOption(
            "project",
            repr(spec.project)[:100],
            f"none: only a worker's token is for one project, not a {spec.role} one",
        )
    if spec.nickname is not None:
        if spec.role not in EARNING:
            raise InvalidOption(
                "nickname", repr(spec.nickname)[:100], f"none: who holds a {spec.role} token does no tasks"
            )
        _check_text("nickname", spec.nickname, NICKNAME_LIMIT, least=1)
    _check_text("note", spec.note, NOTE_LIMIT)
    if spec.seconds is not None and not (math.isfinite(spec.seconds) and 0 < spec.seconds <= LONGEST):
        raise InvalidOption("seconds", f"{spec.seconds:g}", "the time until it expires, above 0, or none for ever")


def _check_text(what: str, text: str, limit: int, *, least: int = 0) -> None:
    if not (text.isprintable() and text == text.strip() and least <= len(text) <= limit):
        expected = f"{least} to {limit} printable characters on one line, with no space around them"
        raise InvalidOption(what, ascii(text)[:100], expected)


def _status(stored: StoredToken) -> TokenStatus:
    """Return *stored* as people see it."""
    is_expired = stored.expires is not None and stored.expires <= now()
    return TokenStatus(
        id=stored.id, role=stored.role, project=stored.project_name, nickname=stored.nickname, note=stored.note,
        created=stored.created / 1e6,
        expires=None if stored.expires is None else stored.expires / 1e6,
        revoked=None if stored.revoked is None else stored.revoked / 1e6,
        state="revoked" if stored.revoked is not None else "expired" if is_expired else "valid",
    )  # fmt: skip


def _digest(token: str) -> bytes:
    """Return what *token* is known by.

    A hash without salt or stretching will do: of 256 random bits nobody can try all. How long it takes to compare
    digests tells nothing, since nobody can choose one that begins like another.
    """
    return sha256(token.encode(errors="surrogatepass")).digest()
