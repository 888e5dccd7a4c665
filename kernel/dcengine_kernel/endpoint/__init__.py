"""The Jupyter endpoint: kernels, sessions, websockets and files for front ends that are given the engine's URL."""

from __future__ import annotations

from dcengine.endpoints import Endpoint, Surroundings

from . import about, channels, contents, jupyter_sessions, kernel_routes
from .kernels import Kernels
from .strays import with_strays


def endpoint(surroundings: Surroundings) -> Endpoint:
    """Return the addresses at which Jupyter front ends ask."""
    kernels = Kernels(surroundings)
    sessions = jupyter_sessions.JupyterSessions(kernels)
    routes = [
        *about.routes(surroundings, kernels),
        *kernel_routes.routes(kernels, sessions.paths_of),
        *channels.routes(kernels),
        *jupyter_sessions.routes(sessions),
        *contents.routes(surroundings),
    ]
    return Endpoint("jupyter", with_strays(routes), close=kernels.close, is_in_use=kernels.is_in_use)
