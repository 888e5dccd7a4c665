"""The Dask task that holds one slot for us: it marks the slot as busy to Dask and to its other users."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any


def pilot_function() -> Callable[..., Awaitable[str]]:
    """Return the pilot as a function that travels by value.

    Dask's scheduler unpickles what it passes on, and a scheduler that somebody else started has no
    dcengine. Only a function that seems to be of ``__main__`` is pickled with its code.
    """

    async def dcengine_pilot(**assignment: Any) -> str:
        import importlib

        host = importlib.import_module("dcengine.cluster.host")
        return str(await host.hold_slot(**assignment))

    dcengine_pilot.__module__ = "__main__"
    dcengine_pilot.__qualname__ = "dcengine_pilot"
    return dcengine_pilot
