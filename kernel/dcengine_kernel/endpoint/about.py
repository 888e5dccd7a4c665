"""What Jupyter front ends ask before anything else: what answers here, which kernels there are, who they are."""

from __future__ import annotations

import asyncio
import mimetypes
from datetime import datetime
from typing import Any, Protocol

import msgspec
from aiohttp import web

from dcengine._version import __version__
from dcengine.endpoints import EndpointRoute, Surroundings
from dcengine.server.access import GRANT
from dcengine.server.answers import json_answer
from dcengine.verbs import Grant

from . import description
from .contents.handlers import SANDBOX
from .kernels import name_of
from .kernelspecs import DEFAULT, file_of, kernelspecs, model_of
from .prefixes import prefix_of
from .refusing import Refused, refusing

API_VERSION = "2.21.0"  #: of jupyter_server, whose answers these are
MOMENT = "%Y-%m-%dT%H:%M:%S.%fZ"  #: gateways of Jupyter read no other form
MONTH = 30 * 24 * 3600  #: seconds
RESOURCES = ("api", "contents", "kernels", "kernelspecs", "sessions")  #: that front ends ask permissions for
TREE = f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>dcengine {__version__}: a Jupyter server</title>
<h1>Kernels and notebooks of dcengine</h1>
<p>Front ends are given this address, with its token and without <code>/tree</code>: VS Code as an existing Jupyter
server, PyCharm as a configured one, JupyterLab as <code>jupyter lab --gateway-url</code>.</p>
</html>
"""


class Kernels(Protocol):
    """The kernels that run here, in numbers."""

    started: datetime  #: when this endpoint was

    @property
    def last_activity(self) -> datetime:
        """When a kernel was last asked something, or said something."""
        ...

    @property
    def connections(self) -> int:
        """How many websockets are open."""
        ...

    def models(self) -> list[dict[str, Any]]:
        """Return each kernel as front ends are told of it."""
        ...


def routes(surroundings: Surroundings, kernels: Kernels) -> list[EndpointRoute]:
    """Return the addresses that say what there is."""
    about = _About(surroundings, kernels)
    return [
        EndpointRoute("GET", "/tree", None, about.tree),
        EndpointRoute("GET", "/api", None, about.version),
        EndpointRoute("GET", "/api/spec.yaml", None, description.spec),
        EndpointRoute("GET", "/api/kernelspecs", "submit", about.kernelspecs),
        EndpointRoute("GET", "/api/kernelspecs/{name}", "submit", refusing(about.kernelspec)),
        # Browsers load pictures without a token.
        EndpointRoute("GET", "/kernelspecs/{name}/{file}", None, refusing(about.kernelspec_file)),
        EndpointRoute("GET", "/api/status", "view", about.status),
        EndpointRoute("GET", "/api/me", "view", refusing(about.me)),
        EndpointRoute("GET", "/api/terminals", "view", about.terminals),
    ]


class _About:
    def __init__(self, surroundings: Surroundings, kernels: Kernels) -> None:
        self._settings, self._kernels = surroundings.settings, kernels

    async def tree(self, request: web.Request) -> web.Response:
        """Say to a browser what answers here; some front ends look whether it does."""
        return web.Response(text=TREE, content_type="text/html")

    async def version(self, request: web.Request) -> web.Response:
        """Return the version of the Jupyter server API that is answered here."""
        return json_answer({"version": API_VERSION})

    async def kernelspecs(self, request: web.Request) -> web.Response:
        """Return the kernels that can be started, the default first."""
        models = await asyncio.to_thread(self._models, prefix_of(request))
        return json_answer({"default": DEFAULT, "kernelspecs": models})

    async def kernelspec(self, request: web.Request) -> web.Response:
        """Return one kernel that can be started."""
        name = request.match_info["name"]
        models = await asyncio.to_thread(self._models, prefix_of(request))
        if name not in models:
            raise Refused(404, f"Kernel spec {name[:100]!a} not found", "Not Found")
        return json_answer(models[name])

    async def kernelspec_file(self, request: web.Request) -> web.StreamResponse:
        """Return a picture of a kernel."""
        name, file = request.match_info["name"], request.match_info["file"]
        spec = (await asyncio.to_thread(kernelspecs, self._settings)).get(name)
        path = None if spec is None else await asyncio.to_thread(file_of, spec, file)
        if path is None:
            raise Refused(404, f"Kernel spec {name[:100]!a} has no file {file[:100]!a}", "Not Found")
        content_type = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        body = await asyncio.to_thread(path.read_bytes)
        headers = {"Cache-Control": f"max-age={MONTH}", "Content-Security-Policy": SANDBOX}
        return web.Response(body=body, content_type=content_type, headers=headers)

    async def status(self, request: web.Request) -> web.Response:
        """Return since when this answers, when it last had something to do, and for how many."""
        kernels = self._kernels
        return json_answer(
            {
                "started": kernels.started.strftime(MOMENT),
                "last_activity": kernels.last_activity.strftime(MOMENT),
                "kernels": len(kernels.models()),
                "connections": kernels.connections,
            }
        )

    async def me(self, request: web.Request) -> web.Response:
        """Return who asks, and which of the ``permissions`` in the query they have."""
        grant = request[GRANT]
        assert grant is not None
        asked = _asked_permissions(request.query.get("permissions", ""))
        allowed = {what: [act for act in acts if _may(grant, what, act)] for what, acts in asked.items()}
        return json_answer({"identity": _identity(grant), "permissions": {**allowed, "updatable_fields": []}})

    async def terminals(self, request: web.Request) -> web.Response:
        """Return no terminals: there are none here."""
        return json_answer([])

    def _models(self, prefix: str) -> dict[str, Any]:
        return {name: model_of(name, spec, prefix) for name, spec in kernelspecs(self._settings).items()}


# ---- who asks ------------------------------------------------------------------------------

_PERMISSIONS = msgspec.json.Decoder(dict[str, list[str]])


def _asked_permissions(text: str) -> dict[str, list[str]]:
    try:
        return _PERMISSIONS.decode(text) if text else {}
    except (ValueError, RecursionError):
        shown = ascii(text[:100])
        raise Refused(400, f'permissions should be a JSON dict of {{"resource": ["action",]}}, got {shown}') from None


def _may(grant: Grant, resource: str, action: str) -> bool:
    """Tell whether whoever has *grant* may do *action*; who only looks may ask what there is and nothing else."""
    if grant.role == "view":
        return (resource, action) == ("api", "read")
    return resource in RESOURCES and action in ("read", "write", "execute")


def _identity(grant: Grant) -> dict[str, Any]:
    name = name_of(grant)
    initials = "".join(word[0] for word in name.split()[:2]).upper()
    return {
        "username": name,
        "name": name,
        "display_name": name,
        "initials": initials,
        "avatar_url": None,
        "color": None,
    }
