"""The first page and the probes: open to anybody, they say nothing about jobs."""

from __future__ import annotations

from aiohttp import web

from .._version import __version__
from ..errors import DcengineError
from .answers import VERBS, text_answer
from .metrics import MEASURED
from .speaking import speaks, text_of

# Links are relative: the page works below any prefix.
PAGE = f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>dcengine</title>
<h1>dcengine {__version__}</h1>
<p>A job engine answers here. Its API is below <a href="v1/">v1/</a> and needs a token:
<code>Authorization: Bearer TOKEN</code> or <code>?token=TOKEN</code>.</p>
<p>From a terminal: <code>dcengine status --url ADDRESS</code>.
Another machine brings a worker with <code>dcengine join ADDRESS</code>.</p>
</html>
"""


@speaks(answer=text_of("A page for browsers.", "text/html"))
async def front_page(request: web.Request) -> web.Response:
    """Say what answers here, and where its API is."""
    return web.Response(text=PAGE, content_type="text/html")


@speaks(answer=text_of("It does."))
async def healthz(request: web.Request) -> web.Response:
    """Say that the process answers."""
    return text_answer("alive\n")


@speaks(answer=text_of("It does."), answers={503: text_of("Not now; the name of the error says why.")})
async def readyz(request: web.Request) -> web.Response:
    """Say whether the engine takes jobs."""
    engine = request.app[MEASURED]
    try:
        await (request.app[VERBS].status() if engine is None else engine.check_ready())
    except DcengineError as error:
        return web.Response(text=f"not ready: {type(error).__name__}\n", status=503)
    return text_answer("ready\n")
