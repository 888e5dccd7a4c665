"""The dashboard's own files: JavaScript modules and a style, as they lie in `pages/ui`. They hold no data."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

from aiohttp import web

from ..errors import NotFound
from .sending import Answer
from .speaking import speaks, text_of

FOLDER = "pages/ui"
PAGE = "index.html"
MEDIA = {"html": "text/html", "js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}
# Pictures and movies that jobs have made come with their data; all else comes from here.
POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; object-src 'none'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class Asset(NamedTuple):
    """One file."""

    content: bytes
    media: str
    tag: str  #: another with each content


@speaks(answer=text_of("The page.", "text/html"), answers={304: None})
async def dashboard(request: web.Request) -> web.Response:
    """Show the dashboard; what it shows needs a token."""
    return _answer(request, assets()[PAGE])


@speaks(answer=text_of("The file.", "text/javascript"), answers={304: None, 404: None})
async def dashboard_file(request: web.Request) -> web.Response:
    """Answer a file of the dashboard."""
    name = request.match_info["file"]
    asset = assets().get(name)
    if asset is None:
        raise NotFound("file of the dashboard", name[:100])
    return _answer(request, asset)


def _answer(request: web.Request, asset: Asset) -> web.Response:
    headers = {"Content-Security-Policy": POLICY, "Cache-Control": "no-cache", "ETag": asset.tag}
    if any(each.value == asset.tag.strip('"') for each in request.if_none_match or ()):
        return web.Response(status=304, headers=headers)
    return Answer(body=asset.content, content_type=asset.media, charset="utf-8", headers=headers)


@cache
def assets() -> dict[str, Asset]:
    """Return every file by its name."""
    found = {name: _asset(name, entry) for name, entry in _below(files(__package__).joinpath(FOLDER), "")}
    # The page asks for its own tag: where that is another, it was made of other files than there are now.
    tag = _tag("".join(found[name].tag for name in sorted(found)).encode())
    return {**found, PAGE: found[PAGE]._replace(tag=tag)}


def _below(folder: Any, prefix: str) -> list[tuple[str, Any]]:
    found = list[tuple[str, Any]]()
    for entry in folder.iterdir():
        found += _below(entry, f"{prefix}{entry.name}/") if entry.is_dir() else [(prefix + entry.name, entry)]
    return found


def _asset(name: str, entry: Any) -> Asset:
    content = entry.read_bytes()
    return Asset(content, MEDIA[name.rpartition(".")[2]], _tag(content))


def _tag(content: bytes) -> str:
    return f'"{hashlib.sha256(content).hexdigest()[:20]}"'
