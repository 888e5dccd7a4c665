"""The API's document for people: a page for browsers, and docs/http.md."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from typing import Any

from aiohttp import web
from markupsafe import Markup, escape

from .openapi import document
from .speaking import TABLE, Route, speaks, text_of

PAGES = "pages"
_PAGE = """\
# HTTP

<!-- Made by `make docs` from dcengine/server/. -->

What an engine can be asked over HTTP. It tells the same itself: `/v1/openapi.json` is an OpenAPI 3.1 document with
every type, `/v1/` a page of it for people. Both are open to anybody, and all of it works below a prefix.

```sh
curl -s "$URL/v1/openapi.json" | jq '.paths | keys'
curl -s -H "Authorization: Bearer $TOKEN" "$URL/v1/status"
```

A token comes as `Authorization: Bearer TOKEN`, as the password of HTTP Basic, or as `?token=TOKEN`. The tables say
what role a route needs; `admin` may do everything, `submit` may also look, and the tasks of an open project need no
token. Bodies are not compressed. Whatever changes something may carry an `Idempotency-Key`: asked again under the same
key, it gets the answer of the first time; with `?wait=SECONDS`, long work is answered by 202 until it has ended. What
outside workers say is in [Projects](projects.md#stages-that-outside-workers-do), as a session of `curl`.

Each refusal is JSON, `{"error": ..., "facts": [...], "message": ...}`, and has a status that says of which kind
it is:

| status | `error` |
|---|---|
"""
_GROUP = """
## {name}

{about}

| route | role | what it does |
|---|---|---|
"""


@speaks(answer=text_of("The page.", "text/html"))
async def page(request: web.Request) -> web.Response:
    """Show what can be asked over HTTP."""
    return web.Response(text=as_html(request.app[TABLE]), content_type="text/html")


@speaks(answer=text_of("The stylesheet.", "text/css"))
async def style(request: web.Request) -> web.Response:
    """Return how that page looks."""
    text = (files(str(__package__)) / PAGES / "reference.css").read_text()
    return web.Response(text=text, content_type="text/css")


@cache
def as_html(routes: tuple[Route, ...]) -> str:
    """Return the page of *routes*."""
    from jinja2 import Environment, PackageLoader  # an engine may run for weeks without anybody looking

    environment = Environment(loader=PackageLoader(str(__package__), PAGES), autoescape=True)
    environment.filters |= {"inline": inline, "prose": prose}
    told = document(routes)
    return environment.get_template("reference.html").render(**told, operations=list(_operations(told)))


def as_markdown(routes: tuple[Route, ...]) -> str:
    """Return docs/http.md."""
    told = document(routes)
    refusals = [f"| {code} | {each['description']} |\n" for code, each in told["components"]["responses"].items()]
    return _PAGE + "".join([*refusals, *_groups(told)])


def _groups(told: dict[str, Any]) -> Iterator[str]:
    for tag in told["tags"]:
        yield _GROUP.format(name=tag["name"].capitalize(), about=tag["description"])
        for path, method, it in _operations(told):
            if tag["name"] in it["tags"]:
                yield f"| `{method.upper()} {path}` | {it['x-dcengine-role']} | {it['summary']} |\n"


def _operations(told: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in told["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def main() -> None:
    """Print docs/http.md."""
    from .routes import ROUTES  # which know this page

    print(as_markdown(ROUTES), end="")


def prose(text: str) -> Markup:
    """Return the paragraphs of *text* as HTML."""
    return Markup("\n").join(Markup("<p>{}</p>").format(inline(each)) for each in text.split("\n\n"))


def inline(text: object) -> Markup:
    """Return *text* as HTML, with what stands in backticks as code and what stands in stars emphasized."""
    shown = str(escape(text or ""))
    shown = re.sub(r"`+([^`]+)`+", r"<code>\1</code>", shown)
    return Markup(re.sub(r"(?<!\w)\*([a-z_]+)\*(?!\w)", r"<em>\1</em>", shown))
