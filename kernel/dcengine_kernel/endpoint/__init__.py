"""The Jupyter endpoint: kernels, sessions, websockets and files for front ends that are given the engine's URL."""

from __future__ import annotations

from dcengine.endpoints import Endpoint, Surroundings


def endpoint(surroundings: Surroundings) -> Endpoint:
    """Return the addresses at which Jupyter front ends ask."""
    return Endpoint("jupyter", [])
