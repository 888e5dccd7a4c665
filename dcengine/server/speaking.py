"""What a route says of itself, beside its handler: what it takes, what it answers. The API's document is made of it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from types import NoneType
from typing import Annotated, Any, NamedTuple, TypeVar, get_args, get_type_hints

from aiohttp import web
from aiohttp.typedefs import Handler
from msgspec import Meta

from ..jobs import NAME_LIMIT
from .access import Holder, Role
from .answers import BYTES, JSON, MSGPACK

H = TypeVar("H", bound=Callable[..., Any])

_SPEAKS = "__speaks__"  #: the attribute under which a handler carries what it says
_HEX = Meta(pattern="^[0-9a-f]{64}$")


class Route(NamedTuple):
    """One address: who may ask, and who answers."""

    method: str
    path: str
    role: Role | Holder | None
    handler: Handler

    @property
    def speaks(self) -> Speaks | None:
        """What its handler says of itself."""
        return getattr(self.handler, _SPEAKS, None)

    @property
    def shape(self) -> str:
        """Its path with the names of its parts alone, not what they have to look like."""
        return re.sub(r"{(\w+):[^}]+}", r"{\1}", self.path)


TABLE = web.AppKey[tuple[Route, ...]]("dcengine.table")


class Parameter(NamedTuple):
    """Something that is said in the address."""

    name: str
    kind: Any  #: a type, as msgspec knows it
    about: str
    is_required: bool = False

    @property
    def needed(self) -> Parameter:
        """The same, for a route that does not do without."""
        return self._replace(is_required=True)


class Content(NamedTuple):
    """A body, on its way in or out."""

    media: str
    kind: Any = None  #: what it holds, as msgspec knows it; None where nobody looks into it
    about: str = ""


class Speaks(NamedTuple):
    """What a handler takes and answers."""

    name: str  #: unique; client generators make it the name of a function
    about: str  #: the docstrings of the verb that it asks and of the handler
    query: tuple[Parameter, ...]
    body: Content | None
    answers: Mapping[int, Content | None]  #: by status; errors are the same everywhere


def json_of(kind: Any, about: str = "") -> Content:
    return Content(JSON, kind, about)


def msgpack_of(kind: Any, about: str = "") -> Content:
    return Content(MSGPACK, kind, about)


def bytes_of(about: str) -> Content:
    return Content(BYTES, None, about)


def text_of(about: str, media: str = "text/plain") -> Content:
    return Content(media, str, about)


def speaks(
    verb: Callable[..., Any] | None = None,
    *,
    query: Sequence[Parameter] = (),
    body: Content | None = None,
    answer: Content | None = None,
    answers: Mapping[int, Content | None] | None = None,
) -> Callable[[H], H]:
    """Say of a handler that it asks *verb*, and what it takes and answers.

    Where nothing else is said, the result of *verb* is the answer, as JSON; 204 stands for None. *answers* adds
    those of other statuses. What it is for, the docstrings say: that of *verb* first.
    """

    def said(handler: H) -> H:
        found = {**_answers(verb, answer), **(answers or {})}
        name = handler.__name__ if verb is None else verb.__name__
        about = "\n\n".join(filter(None, (inspect.getdoc(verb), inspect.getdoc(handler))))
        setattr(handler, _SPEAKS, Speaks(name, about, tuple(query), body, found))
        return handler

    return said


def _answers(verb: Callable[..., Any] | None, answer: Content | None) -> dict[int, Content | None]:
    kind = None if verb is None else get_type_hints(verb)["return"]
    may_be_none = NoneType in get_args(kind)
    if answer is None and kind is not None:
        (kind,) = [each for each in get_args(kind) if each is not NoneType] if may_be_none else [kind]
        answer = json_of(kind)
    found: dict[int, Content | None] = {} if answer is None else {200: answer}
    return {**found, 204: None} if may_be_none else found


# ---- what several routes take --------------------------------------------------------------

Whole = Annotated[int, Meta(ge=0, le=10**18)]
Page = Annotated[int, Meta(ge=1, le=1000)]
Seconds = Annotated[float, Meta(ge=0)]
Name = Annotated[str, Meta(min_length=1, max_length=NAME_LIMIT, pattern=r"^[^/{}]+$")]

AFTER = Parameter("after", Whole, "Only what comes after this one; where a page ends, the next one begins.")
BEFORE = Parameter("before", Whole, "Only what has an id below this one.")
LIMIT = Parameter("limit", Page, "How many, at most.")
FEW = Parameter("limit", Annotated[int, Meta(ge=1, le=100)], "How many, at most.")
PROJECT = Parameter("project", str, "The name of a project.")
STAGE = Parameter("stage", str, "The name of one of the project's stages.")
WAIT = Parameter("wait", Seconds, "Seconds to wait for news, at most 60.")

PATH = {
    each.name: each
    for each in (
        Parameter("id", Annotated[int, Meta(ge=0, lt=10**18)], "The id."),
        Parameter("name", Name, "The name of the project."),
        Parameter("stage", Name, "The name of the stage."),
        Parameter("workload", Name, "The name of the workload."),
        Parameter("number", Annotated[int, Meta(ge=0, lt=10**18)], "The number of the job within its project."),
        Parameter("digest", Annotated[str, _HEX], "The sha256 of the packed value."),
        Parameter("file", Annotated[str, Meta(pattern="^[a-z_/]+[.][a-z]+$")], "A file of the dashboard."),
    )
}  #: by its name in the braces of a path
