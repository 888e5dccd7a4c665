"""Old clients at ``/p/PROJECT/``: each project answers in the protocol that it was declared with."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from contextlib import suppress

from aiohttp import web
from aiohttp.typedefs import Handler

from ..errors import AccessDenied, DcengineError, InvalidOption
from ..jobs import Project
from ..protocols import Protocol, Route, Visit, load, names
from .access import ROLES, Holder, Role, grant_for
from .answers import VERBS, status_of, text_answer, whole_body
from .guards import READING

logger = logging.getLogger(__name__)

PREFIX = "/p/{project}"
PARAMETER = re.compile(r"\{(\w+)\}")
BUSY = frozenset({429, 500, 503, 507})  #: which old clients take for the end of all things

Known = Callable[[str], "Project | None"]
KNOWN = web.AppKey[Known]("dcengine.known_projects")  #: a look into memory: it is asked for each request
Spoken = Mapping[str, tuple[Protocol, Route]]


def nothing_known(project: str) -> Project | None:
    """Say that nothing is known of *project*."""
    return None


def mount(app: web.Application, known: Known, prefix: str = "") -> None:
    """Have all installed protocols answered below *prefix*; *known* says which project speaks which."""
    app[KNOWN] = known
    spoken = _handlers()
    # Open: who may ask is judged project by project.
    roles: Mapping[Handler, Role | Holder | None] = app[ROLES]
    app[ROLES] = {**roles, **dict.fromkeys(spoken.values())}
    for (method, path), handler in spoken.items():
        app.router.add_route(method, prefix + PREFIX + path, handler)


def _handlers() -> dict[tuple[str, str], Handler]:
    """Return who answers, by method and path; protocols that have a path in common share its handler."""
    spoken: dict[tuple[str, str], dict[str, tuple[Protocol, Route]]] = {}
    for name in names():
        with suppress(InvalidOption):  # it cannot be loaded, and has said so: the others can
            protocol = load(name)
            for route in protocol.routes:
                spoken.setdefault((route.method, _shape(route.path)), {})[name] = protocol, route
    return {address: _handler(by_name) for address, by_name in spoken.items()}


def _shape(path: str) -> str:
    """Return *path* with its parameters numbered: two protocols may call them by different names."""
    numbers = iter(range(1, 100))
    return PARAMETER.sub(lambda _: f"{{_{next(numbers)}}}", path)


def _handler(spoken: Spoken) -> Handler:
    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            return await _answer(request, spoken)
        except AccessDenied as denied:
            return _refusal(request, str(denied))
        except DcengineError as error:
            status = status_of(error)
            if status in BUSY:
                logger.warning("%s %a: %s", request.method, request.path[:200], error)
                return _hang_up(request)
            answer = text_answer(f"{error}\n")
            answer.set_status(status)
            return answer

    return answer


async def _answer(request: web.Request, spoken: Spoken) -> web.StreamResponse:
    name = request.match_info["project"]
    project = request.app[KNOWN](name)
    protocol, route = spoken.get(project.protocol, (None, None)) if project is not None else (None, None)
    if project is None or protocol is None or route is None:
        answer = text_answer(_why_not(name, project))
        answer.set_status(404)
        return answer
    grant = grant_for(request, name)
    body = b"" if request.method in READING else await whole_body(request, protocol.body_limit)
    values = [request.match_info[f"_{n}"] for n, _ in enumerate(PARAMETER.findall(route.path), 1)]
    parameters = dict(zip(PARAMETER.findall(route.path), values, strict=True))
    return await route.answer(Visit(request, request.app[VERBS], project, grant, parameters, body))


def _why_not(name: str, project: Project | None) -> str:
    shown = ascii(name[:100])
    if project is None:
        return f"there is no project {shown} here\n"
    if not project.protocol:
        return (
            f"project {shown} speaks no protocol of old clients; its owner declares it with one: "
            "dcengine project create NAME --lease ... --protocol distcompute\n"
        )
    return f"project {shown} speaks {project.protocol!a}, which has no such address\n"


def _refusal(request: web.Request, problem: str) -> web.Response:
    """Refuse whoever may not work on a project: by 401 always, since old clients take 403 for something else."""
    answer = text_answer(f"{problem}\nAn address with a token: http://nickname:TOKEN@host/p/PROJECT/\n")
    answer.set_status(401)
    answer.headers["WWW-Authenticate"] = 'Basic realm="dcengine", charset="UTF-8"'
    return answer


def _hang_up(request: web.Request) -> web.Response:
    """Close the connection without an answer: old clients ask again then, and give up after any status."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=503)  # nobody gets it
