"""Projects described by a browser: their functions by name, since it has none."""

from __future__ import annotations

import hashlib
import pickle
import re

import msgspec
from aiohttp import web

from ..errors import InvalidOption
from ..jobs import Shape, StageKind
from ..verbs import Function, ProjectSpec, ProjectStatus, StageSpec
from .answers import VERBS, decoded_json, json_answer
from .items import submitter_of
from .speaking import json_of, speaks

_ADDRESS = re.compile(r"(\w+(?:\.\w+)*):(\w+(?:\.\w+)*)")
_ADDRESS_LIMIT = 250  #: characters of each part


class DescribedStage(msgspec.Struct, frozen=True, kw_only=True):
    """A stage whose function, if it has one, is named by where workers find it."""

    name: str
    title: str = ""
    kind: StageKind = "lease"
    shape: Shape = "map"
    function: str = ""  #: ``module:name``, which the workers can import; empty for a lease stage
    tags: str = ""
    retries: int = 0
    timeout: float | None = None
    lease_seconds: float | None = None


class DescribedProject(msgspec.Struct, frozen=True, kw_only=True):
    """A project as a person describes it in a form."""

    name: str
    stages: list[DescribedStage]
    is_open: bool = False


_decoder = msgspec.json.Decoder(DescribedProject)


@speaks(body=json_of(DescribedProject), answer=json_of(ProjectStatus))
async def describe_project(request: web.Request) -> web.Response:
    """Make a project whose functions are named, ``module:name``, and imported by the workers alone."""
    wanted = await decoded_json(request, _decoder, "a project")
    if any(project.name == wanted.name for project in await request.app[VERBS].projects()):
        raise InvalidOption("the project's name", repr(wanted.name), "another one: there is such a project")
    spec = ProjectSpec(
        name=wanted.name, stages=list(map(_stage, wanted.stages)), is_open=wanted.is_open,
        submitter=submitter_of(request),
    )  # fmt: skip
    return json_answer(await request.app[VERBS].declare_project(spec))


def _stage(stage: DescribedStage) -> StageSpec:
    facts = {name: getattr(stage, name) for name in stage.__struct_fields__ if name != "function"}
    return StageSpec(**facts, function=_function(stage) if stage.function or stage.kind == "function" else None)


def _function(stage: DescribedStage) -> Function:
    """Return the function with its name instead of its code: a worker that unpickles it imports it."""
    found = _ADDRESS.fullmatch(stage.function)
    if found is None or max(map(len, found.groups())) > _ADDRESS_LIMIT:
        what = f"the function of stage {stage.name!r}"
        raise InvalidOption(what, repr(stage.function[:100]), "'module:name', which the workers can import")
    module, name = found.groups()
    code = b"".join([pickle.PROTO, b"\x05", *map(_text, (module, name)), pickle.STACK_GLOBAL, pickle.STOP])
    return Function(hashlib.sha256(code).digest(), f"{module}.{name}", code)


def _text(word: str) -> bytes:
    data = word.encode()
    return pickle.BINUNICODE + len(data).to_bytes(4, "little") + data
