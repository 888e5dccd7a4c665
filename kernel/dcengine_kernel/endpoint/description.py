"""What this endpoint answers, as an OpenAPI document made of the routes that are really there."""

from __future__ import annotations

import inspect
import re
from typing import Any

import msgspec
from aiohttp import web

from dcengine._version import __version__
from dcengine.server.access import ROLES, Holder, Role
from dcengine.server.openapi import SECURITY, TOKENS, sentence

from .shapes import ANSWERS
from .strays import is_stray

PACKAGE = __package__
PLACE = re.compile(r"{(\w+)(?::[^{}]*)?}")  #: in a path of aiohttp's: a name, and what may stand there
ABOUT = "Kernels, Jupyter sessions and files, as jupyter_server answers for them."
REFUSAL = {
    "description": "It cannot be done; the message says why.",
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["message"],
                "properties": {"message": {"type": "string"}, "reason": {"type": ["string", "null"]}},
            }
        }
    },
}


async def spec(request: web.Request) -> web.Response:
    """Return this document; it is written as JSON, which is YAML too."""
    text = msgspec.json.format(msgspec.json.encode(document(request.app)))
    return web.Response(body=text, content_type="text/x-yaml")


def document(app: web.Application) -> dict[str, Any]:
    """Return the OpenAPI document of the Jupyter routes that *app* answers."""
    kinds = [kind for _, kind in ANSWERS.values() if kind is not None]
    schemas, components = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/{name}")
    by_kind = dict(zip(map(repr, kinds), schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for route in app.router.routes():
        if route.handler.__module__.startswith(PACKAGE) and route.resource is not None and _is_described(route):
            path = PLACE.sub(r"{\1}", route.resource.canonical)
            status, kind = ANSWERS.get((route.method, path), (200, None))
            operation = _operation(route, path, app[ROLES].get(route.handler))
            operation["responses"] |= {str(status): _success(kind, by_kind.get(repr(kind)))}
            paths.setdefault(path, {})[route.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {"title": "dcengine's Jupyter endpoint", "version": __version__, "description": ABOUT},
        "servers": [{"url": ".."}],  # seen from this document, so that any prefix will do
        "security": TOKENS,
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": SECURITY, "responses": {"Refusal": REFUSAL}},
    }


def _is_described(route: web.AbstractRoute) -> bool:
    path = "" if route.resource is None else route.resource.canonical
    return route.method != "HEAD" and not is_stray(route.method, path)


def _operation(route: web.AbstractRoute, path: str, role: Role | Holder | None) -> dict[str, Any]:
    places = PLACE.findall(path)
    found: dict[str, Any] = {
        "summary": sentence(inspect.getdoc(route.handler) or ""),
        "parameters": [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in places],
        "responses": {"4XX": {"$ref": "#/components/responses/Refusal"}},
        "x-dcengine-role": "anybody" if role is None else role.value,
    }
    return found if role is not None else {**found, "security": []}


def _success(kind: Any, schema: dict[str, Any] | None) -> dict[str, Any]:
    """Return what a success looks like that carries *kind*, None for nothing, or for what has no schema."""
    if kind is None or schema is None:
        return {"description": "It is done."}
    about = sentence(inspect.getdoc(kind) or "") if isinstance(kind, type) else "A list."
    return {"description": about, "content": {"application/json": {"schema": schema}}}
