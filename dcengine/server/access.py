"""Who may do what: roles, the token of a request, and the check before each handler."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from enum import Enum
from typing import Protocol

from aiohttp import web
from aiohttp.typedefs import Handler

from ..errors import AccessDenied
from .answers import error_answer


class Role(str, Enum):
    """What the holder of a token may do."""

    ADMIN = "admin"  #: everything
    SUBMIT = "submit"  #: run code, cancel, look
    JOIN = "join"  #: bring a Dask worker
    WORKER = "worker"  #: lease and complete tasks of one project
    VIEW = "view"  #: look


SUFFICES: Mapping[Role, frozenset[Role]] = {
    Role.ADMIN: frozenset({Role.ADMIN}),
    Role.SUBMIT: frozenset({Role.ADMIN, Role.SUBMIT}),
    Role.JOIN: frozenset({Role.ADMIN, Role.JOIN}),
    Role.WORKER: frozenset({Role.ADMIN, Role.WORKER}),
    Role.VIEW: frozenset({Role.ADMIN, Role.SUBMIT, Role.VIEW}),
}  #: the roles that may do what a route's role may do


class Access(Protocol):
    """Knows the tokens of one engine."""

    def role_of(self, token: str) -> Role | None:
        """Return the role that *token* carries, None for an unknown, expired or revoked one."""
        ...


ACCESS = web.AppKey[Access]("dcengine.access")
ROLES = web.AppKey[Mapping[Handler, "Role | None"]]("dcengine.roles")  #: None: open to anybody


@web.middleware
async def check_role(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Let a request through to its handler if its token's role suffices."""
    if request.match_info.http_exception is not None:
        return await handler(request)  # no such route: there is nothing to protect
    # A handler that the table does not name is the administrator's alone.
    needed = request.app[ROLES].get(request.match_info.handler, Role.ADMIN)
    if needed is None:
        return await handler(request)
    token = token_of(request)
    if not token:
        return _unknown("this needs a token")
    role = request.app[ACCESS].role_of(token)
    if role is None:
        return _unknown("the token is wrong, expired or revoked")
    if role not in SUFFICES[needed]:
        raise AccessDenied(f"the token's role is {role.value!r}, this needs {needed.value!r}")
    return await handler(request)


def token_of(request: web.BaseRequest) -> str:
    """Return the token of *request*, empty if it carries none; the header goes before the address."""
    scheme, _, credentials = request.headers.get("Authorization", "").strip().partition(" ")
    if scheme.lower() in ("bearer", "token"):
        return credentials.strip()
    if scheme.lower() == "basic":
        return _password(credentials)
    return request.query.get("token", "")


def _password(credentials: str) -> str:
    try:
        return base64.b64decode(credentials, validate=True).decode().partition(":")[2]
    except (binascii.Error, UnicodeDecodeError):
        return ""


def _unknown(reason: str) -> web.Response:
    answer = error_answer(AccessDenied(reason), status=401)
    answer.headers["WWW-Authenticate"] = 'Bearer realm="dcengine"'
    return answer
