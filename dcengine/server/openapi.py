"""The API's document: OpenAPI 3.1, made of the table of routes and of the types that they take and answer."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from http import HTTPStatus
from typing import Any

import msgspec
from aiohttp import web

from .. import errors
from .._version import __version__
from ..connection import KEY, STILL_AT_IT, Problem
from ..errors import DcengineError
from .access import SUFFICES, Holder, Role
from .answers import JSON, MSGPACK, STATUS, json_answer
from .guards import READING
from .repeats import KEY_FORM
from .speaking import PATH, TABLE, WAIT, Content, Parameter, Route, Speaks, speaks

REFERENCE = "#/components/schemas/{name}"
ABOUT = f"""\
A job engine: durable jobs, projects of several stages, workers of any kind.

Every answer that is no success is JSON of one form, `Problem`, and has a status of its own kind. Bodies are not
compressed. Whatever changes something may carry `{KEY}`: asked again under the same key, it gets the answer of the
first time.
"""
SECURITY = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "`Authorization: Bearer TOKEN`"},
    "basic": {"type": "http", "scheme": "basic", "description": "Any name, and the token as password."},
    "query": {"type": "apiKey", "in": "query", "name": "token", "description": "For browsers: `?token=TOKEN`"},
}
TOKENS: list[dict[str, list[str]]] = [{name: []} for name in SECURITY]
ANYBODY = frozenset({400, 403, 415})  #: what every request may be refused with
BODY_ONLY = frozenset({413, 507})
_KEY = {
    "name": KEY,
    "in": "header",
    "description": "The same key gets the same answer.",
    "schema": {"type": "string", "pattern": f"^{KEY_FORM.pattern}$"},
}


@speaks(answer=Content(JSON, dict[str, Any], "An OpenAPI 3.1 document."))
async def openapi(request: web.Request) -> web.Response:
    """Return this document."""
    return json_answer(document(request.app[TABLE]))


@cache
def document(routes: tuple[Route, ...]) -> dict[str, Any]:
    """Return the document of *routes*; one that says nothing of itself is left out."""
    told = [(route, route.speaks) for route in routes if route.speaks is not None]
    schemas, components = _schemas(told)
    paths: dict[str, dict[str, Any]] = {}
    for route, said in told:
        paths.setdefault(route.shape, {})[route.method.lower()] = _Operation(route, said, schemas).described()
    return {
        "openapi": "3.1.0",
        "info": {"title": "dcengine", "version": __version__, "description": ABOUT},
        # Seen from this document, so that any prefix and any proxy's address will do.
        "servers": [{"url": ".."}],
        "security": TOKENS,
        "tags": list(_tags(routes)),
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": SECURITY, "responses": _responses()},
    }


def noun(route: Route) -> str:
    """Return the word under which *route* stands with others: the module of its handler."""
    return route.handler.__module__.rpartition(".")[2]


def _tags(routes: Sequence[Route]) -> Iterator[dict[str, str]]:
    modules = dict.fromkeys((noun(route), route.handler.__module__) for route in routes)
    for name, module in modules:
        yield {"name": name, "description": sentence(inspect.getdoc(sys.modules[module]) or "")}


def sentence(text: str) -> str:
    """Return the first paragraph of *text* as one line."""
    return " ".join(text.partition("\n\n")[0].split())


# ---- operations ----------------------------------------------------------------------------


class _Operation:
    """What a route takes and answers, as the document says it."""

    def __init__(self, route: Route, said: Speaks, schemas: Mapping[int, Any]) -> None:
        self._route, self._said, self._schemas = route, said, schemas

    def described(self) -> dict[str, Any]:
        route, said = self._route, self._said
        role = "anybody" if route.role is None else route.role.value
        found: dict[str, Any] = {
            "operationId": said.name,
            "tags": [noun(route)],
            "summary": sentence(said.about),
            "description": f"{said.about}\n\n{may(route.role)}",
            "parameters": list(self._parameters()),
            "responses": self._answers(),
            "x-dcengine-role": role,
        }
        if route.role is None:
            found["security"] = []
        elif route.role is Role.WORKER:
            found["security"] = [*TOKENS, {}]
        if said.body is not None:
            found["requestBody"] = {"required": True, **self._content(said.body)}
        return found

    def _parameters(self) -> Iterator[dict[str, Any]]:
        for name in names_in(self._route.path):
            yield self._parameter(PATH[name].needed, "path")
        for each in _query(self._route, self._said):
            yield self._parameter(each, "query")
        if self._route.method not in READING:
            yield _KEY

    def _parameter(self, each: Parameter, place: str) -> dict[str, Any]:
        schema = self._schemas[id(each.kind)]
        return {
            "name": each.name,
            "in": place,
            "required": each.is_required,
            "description": each.about,
            "schema": schema,
        }

    def _answers(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for status, content in self._said.answers.items():
            about = content.about if content is not None and content.about else _PHRASES.get(status, "")
            found[str(status)] = {"description": about or HTTPStatus(status).phrase}
            if content is not None:
                found[str(status)] |= {"content": self._content(content)["content"]}
        if self._route.method not in READING:
            found[str(STILL_AT_IT)] = {"description": f"Still at it: ask again under the same {KEY}."}
        refusals = sorted(_refusals(self._route, self._said))
        return found | {str(status): _refusal(status) for status in refusals if self._said.answers.get(status) is None}

    def _content(self, content: Content) -> dict[str, Any]:
        about = {"description": content.about} if content.about else {}
        return {**about, "content": {content.media: {"schema": self._body_schema(content)}}}

    def _body_schema(self, content: Content) -> dict[str, Any]:
        schema: dict[str, Any] = self._schemas[id(content.kind)]
        if content.media == MSGPACK:
            return {"type": "string", "format": "binary", "contentMediaType": MSGPACK, "contentSchema": schema}
        return {"type": "string", "format": "binary"} if content.kind is None else schema


def _refusal(status: int) -> dict[str, str]:
    return {"$ref": f"#/components/responses/{status}"}


_PHRASES = {200: "Done.", 204: "There is none (yet)."}


def may(role: Role | Holder | None) -> str:
    """Say who may ask."""
    if role is None:
        return "Open to anybody."
    if isinstance(role, Holder):
        return "Needs a token, of whichever role."
    *some, last = [role.value, *sorted(each.value for each in SUFFICES[role] - {role})]
    roles = f"{', '.join(some)} or {last}" if some else last
    return f"Needs a token of the role {roles}{', or none for an open project' if role is Role.WORKER else ''}."


def names_in(path: str) -> list[str]:
    """Return what stands in the braces of *path*."""
    return re.findall(r"{(\w+)", path)


def _query(route: Route, said: Speaks) -> tuple[Parameter, ...]:
    if route.method in READING or any(each.name == WAIT.name for each in said.query):
        return said.query
    return (*said.query, WAIT._replace(about=f"With {KEY}: seconds to wait for the end, at most 60; then 202."))


def _refusals(route: Route, said: Speaks) -> set[int]:
    """Return the statuses that *route* may refuse a request with."""
    statuses = {status for _, status in STATUS}
    if said.body is None:
        statuses -= BODY_ONLY if route.method in READING else {413}
    own = {status for status, content in said.answers.items() if status >= 400 and content is None}
    return {*statuses, *ANYBODY, 401} if route.role is not None else own | ANYBODY


def _responses() -> dict[str, Any]:
    problem = {JSON: {"schema": {"$ref": REFERENCE.format(name=Problem.__name__)}}}
    return {str(status): {"description": _errors_of(status), "content": problem} for status in _statuses()}


def _statuses() -> list[int]:
    return sorted({401, 415, *(status for _, status in STATUS)})


def _errors_of(status: int) -> str:
    kinds = [kind for kind, code in STATUS if code == status and issubclass(kind, DcengineError)]
    if status == 400:  # what the caller handed in: whatever is a ValueError or a TypeError, and nothing else
        ours = (getattr(errors, name) for name in errors.__all__)
        kinds = [kind for kind in ours if issubclass(kind, DcengineError) and _status_of(kind) == 400]
    told = ", ".join(f"`{kind.__name__}`" for kind in kinds)
    return f"{HTTPStatus(status).phrase}: {told}" if told else HTTPStatus(status).phrase


def _status_of(kind: type[DcengineError]) -> int | None:
    return next((code for each, code in STATUS if issubclass(kind, each)), None)


# ---- schemas -------------------------------------------------------------------------------


def _schemas(told: Iterable[tuple[Route, Speaks]]) -> tuple[dict[int, Any], dict[str, Any]]:
    """Return the schemas of all types that are spoken of, by the identity of the type, and the named ones."""
    kinds: dict[int, Any] = {id(Problem): Problem, id(None): Any}
    for route, said in told:
        spoken = [*_query(route, said), *(PATH[name] for name in names_in(route.path)), said.body]
        for each in (*spoken, *said.answers.values()):
            if each is not None and each.kind is not None:
                kinds[id(each.kind)] = each.kind
    found, components = msgspec.json.schema_components(kinds.values(), ref_template=REFERENCE)
    for kind in structs_in(kinds.values()):
        for name, comment in comments_of(kind).items():
            _named(kind, components)["properties"][name].setdefault("description", comment)
    return dict(zip(kinds, found, strict=True)), components


def _named(kind: type, components: dict[str, Any]) -> Any:
    """Return the schema of *kind*, which has a longer name there if another kind is called the same."""
    return components.get(kind.__name__) or components[f"{kind.__module__}.{kind.__qualname__}"]


def structs_in(kinds: Iterable[Any]) -> list[type]:
    """Return the structs among *kinds* and in them."""
    found: dict[type, None] = {}

    def walk(node: Any) -> None:
        if isinstance(node, msgspec.inspect.StructType):
            if node.cls in found:
                return
            found[node.cls] = None
        if isinstance(node, tuple):
            for each in node:
                walk(each)
        elif isinstance(node, msgspec.inspect.Type | msgspec.inspect.Field):
            walk(msgspec.structs.astuple(node))

    walk(msgspec.inspect.multi_type_info(kinds))
    return list(found)


def comments_of(kind: type) -> dict[str, str]:
    """Return what the source of *kind* says of its fields in ``#:`` comments, behind them or in the lines above."""
    try:
        lines = inspect.getsource(kind).splitlines()
    except (OSError, TypeError):  # installed without its source, or made while running
        return {}
    found: dict[str, str] = {}
    above: list[str] = []
    for line in lines:
        if line.lstrip().startswith("#: "):
            above.append(line.lstrip()[3:])
            continue
        field = re.match(r"    (\w+): ", line)
        said = line.partition("  #: ")[2] or " ".join(above)
        if field and said and hasattr(kind, field[1]):
            found[field[1]] = said
        above = []
    return found
