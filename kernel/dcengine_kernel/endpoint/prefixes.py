"""Where front ends know this engine to be."""

from __future__ import annotations

from aiohttp import web
from yarl import URL

from dcengine.server.proxies import public_url


def prefix_of(request: web.Request) -> str:
    """Return the path below which whoever asks knows this engine: empty, or such as ``/farm``."""
    return URL(public_url(request)).raw_path.rstrip("/")
