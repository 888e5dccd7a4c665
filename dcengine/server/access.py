"""Who may do what: roles, the token of a request, and the check before each handler."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Protocol

from aiohttp import web
from aiohttp.typedefs import Handler

from ..errors import AccessDenied
from ..verbs import Grant


class Role(str, Enum):
    """What the holder of a token may do."""

    ADMIN = "admin"  #: everything
    SUBMIT = "submit"  #: run code, cancel, look
    JOIN = "join"  #: bring a Dask worker
    WORKER = "worker"  #: lease and complete tasks of one project
    VIEW = "view"  #: look


class Holder(Enum):
    """Who has some token, whichever."""

    ANY = "any"  #: for what is about whoever asks, and nobody else


SUFFICES: Mapping[Role | Holder, frozenset[Role]] = {
    Holder.ANY: frozenset(Role),
    Role.ADMIN: frozenset({Role.ADMIN}),
    Role.SUBMIT: frozenset({Role.ADMIN, Role.SUBMIT}),
    Role.JOIN: frozenset({Role.ADMIN, Role.JOIN}),
    Role.WORKER: frozenset({Role.ADMIN, Role.WORKER}),
    Role.VIEW: frozenset({Role.ADMIN, Role.SUBMIT, Role.VIEW}),
}  #: the roles that may do what a route's role may do


class Access(Protocol):
    """Knows the tokens of one engine, and which of its projects are open; asked for each request, it never waits."""

    def grant_of(self, token: str) -> Grant | None:
        """Return what *token* allows, None for an unknown, expired or revoked one."""
        ...

    def is_open(self, project: str | None = None) -> bool:
        """Tell whether anybody may lease tasks of *project*, or of some project, without a token."""
        ...

    def project_of_lease(self, lease: str) -> str | None:
        """Return the project whose task is held under the token of a *lease*; None if none is."""
        ...


ACCESS = web.AppKey[Access]("dcengine.access")
ROLES = web.AppKey[Mapping[Handler, "Role | Holder | None"]]("dcengine.roles")  #: None: open to anybody
GRANT = web.RequestKey["Grant | None"]("dcengine.grant")  #: None: whoever asks has shown no token, and needs none


@web.middleware
async def check_role(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Let a request through to its handler if its token suffices, and keep what that allows for the handler."""
    if request.match_info.http_exception is not None:
        return await handler(request)  # no such route: there is nothing to protect
    # A handler that the table does not name is the administrator's alone.
    needed = request.app[ROLES].get(request.match_info.handler, Role.ADMIN)
    access, token = request.app[ACCESS], token_of(request)
    if needed is None:
        request[GRANT] = access.grant_of(token) if token else None
    elif needed is Role.WORKER:
        request[GRANT] = _workers_grant(access, token, request.match_info.get("name"))
    else:
        request[GRANT] = _sufficient_grant(access, token, needed)
    return await handler(request)


def grant_for(request: web.Request, project: str) -> Grant | None:
    """Return what allows whoever asks to lease tasks of *project*; None for a volunteer, if it is open.

    Raises `AccessDenied`, which is answered by 401 if its `needs_token` is true and by 403 otherwise.
    """
    return _workers_grant(request.config_dict[ACCESS], token_of(request), project)


def check_volunteer(request: web.Request, leases: Iterable[str]) -> None:
    """Raise `AccessDenied` if one of the *leases*, by their tokens, is of a project that is not open."""
    access = request.app[ACCESS]
    for lease in leases:
        project = access.project_of_lease(lease)
        if project is not None and not access.is_open(project):
            raise AccessDenied("this needs a token: it is about a task of a project that is not open", True)


def _workers_grant(access: Access, token: str, project: str | None) -> Grant | None:
    """Return what allows whoever shows *token* to work on *project*, or on some project if that is not known yet."""
    if not token and access.is_open(project):
        return None
    grant = _sufficient_grant(access, token, Role.WORKER)
    if project is not None and grant.project not in (None, project):
        raise AccessDenied(
            f"the token is for project {grant.project!r} alone, this is about {project[:100]!a}; "
            "`dcengine token create --role worker --project NAME` makes one for another"
        )
    return grant


def _sufficient_grant(access: Access, token: str, needed: Role | Holder) -> Grant:
    """Return what *token* allows, if that is what the role *needed* does."""
    if not token:
        raise AccessDenied("this needs a token", True)
    grant = access.grant_of(token)
    if grant is None:
        raise AccessDenied("the token is wrong, expired or revoked", True)
    if Role(grant.role) not in SUFFICES[needed]:
        raise AccessDenied(
            f"the token's role is {grant.role!r}, this needs {needed.value!r}; "
            f"`dcengine token create --role {needed.value}` makes one"
        )
    return grant


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
    except ValueError:  # of base64, or of UTF-8
        return credentials  # what is garbled is a wrong token, not none
