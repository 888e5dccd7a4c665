"""Workloads as forms that are filled in elsewhere: their fields, and a start that cannot touch the engine's own files.

What is filled in comes as texts and as the content of files. A path would be read by whoever checks it, which is the
engine: no text becomes a file here, and fields about the files of whoever asks are no part of a form.
"""

from __future__ import annotations

import asyncio
import contextvars
import enum
import logging
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

import msgspec

from . import api
from .api import ThreadLink
from .errors import DcengineError, InvalidOption, ResultNotReady, WorkloadBroken
from .loops import RunningLoop
from .parameters import Field, File, shown
from .server import FilledIn, Form, FormField
from .verbs import Verbs
from .workloads import Workload, load, names

logger = logging.getLogger(__name__)

AT_ONCE = 2  #: workloads that start at the same time
START_SECONDS = 120.0  #: that one may take from its parameters to its project, in which it may ask a worker
LOOK_SECONDS = 1.0  #: between two looks whether the engine has ended meanwhile
SWITCH = {"true": True, "on": True, "false": False, "off": False}


class WorkloadForms:
    """The installed workloads, for the application that serves *verbs*; implements `server.Forms`."""

    def __init__(self, verbs: Verbs) -> None:
        self._verbs = verbs
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="dcengine-workload")

    async def installed(self) -> list[Form]:
        """Return the form of each workload."""
        return await asyncio.to_thread(lambda: list(map(form_of, names())))  # not behind those that start

    async def start(self, workload: str, filled_in: Sequence[FilledIn], submitter: str) -> str:
        """Start *workload* on the engine of this application; return the name of its project.

        Raises what `workloads.start` raises, and `ResultNotReady` where its start waits for too long.
        """
        way = _Way(self._verbs, RunningLoop(), submitter)
        context = contextvars.copy_context()
        work = self._threads.submit(context.run, _started, workload, filled_in, way)
        return await asyncio.wrap_future(work)


def form_of(name: str) -> Form:
    """Return the workload *name* as a form."""
    try:
        workload = load(name)
    except WorkloadBroken as error:
        return Form(name=name, title=name, problem=str(error))
    return Form(name=name, title=workload.title, fields=[_field(each) for each in workload.fields if not each.is_local])


def _started(name: str, filled_in: Sequence[FilledIn], way: ThreadLink) -> str:
    workload = load(name)
    with api.using(way):
        try:
            return workload.project(workload.checked(given_by(workload, filled_in))).run().name
        except DcengineError:
            raise
        except Exception as error:  # a package of somebody else's
            logger.exception("the workload %r could not be started", name)
            problem = f"{type(error).__name__}: {error}"[:500]
            raise WorkloadBroken(name, name, problem, "tell its authors; the engine's log has more") from error


class _Way(ThreadLink):
    """The way of a thread that starts a workload to the engine's verbs: for somebody else, and not for ever."""

    def __init__(self, verbs: Verbs, loop: RunningLoop, submitter: str) -> None:
        super().__init__(verbs, loop)
        self._loop, self._submitter, self._until = loop.loop, submitter, time.monotonic() + START_SECONDS

    def call(self, verb: str, *args: Any, **kwargs: Any) -> Any:
        future = self.start(verb, *args, **kwargs)
        while not future.done():
            left = self._until - time.monotonic()
            if left <= 0:
                future.cancel()
                raise ResultNotReady("the start of the workload", START_SECONDS)
            if self._loop.is_closed():  # nobody ends it any more
                raise self.closed()
            wait([future], timeout=min(left, LOOK_SECONDS))
        if future.cancelled():  # with the engine
            raise self.closed()
        return future.result()

    def start(self, verb: str, *args: Any, **kwargs: Any) -> Future[Any]:
        return super().start(verb, *map(self._signed, args), **kwargs)

    def _signed(self, given: Any) -> Any:
        """Return what is *given* to a verb, in the name of whoever has filled in the form."""
        has_submitter = isinstance(given, msgspec.Struct) and "submitter" in given.__struct_fields__
        return msgspec.structs.replace(given, submitter=self._submitter) if has_submitter else given


# ---- fields --------------------------------------------------------------------------------


def _field(field: Field) -> FormField:
    kinds: dict[Any, Any] = {File: "file", int: "whole number", float: "number", bool: "switch"}
    return FormField(
        name=field.name, kind="choice" if field.choices else kinds.get(field.kind, "text"),
        description=field.description, limits=field.limits, choices=list(field.choices), is_many=field.is_many,
        is_needed=field.is_needed, default=None if field.is_needed else _plain(field.default),
        suffix=str(field.extra.get("suffix", "")),
    )  # fmt: skip


def _plain(default: Any) -> Any:
    """Return *default* as JSON has it, None for what a form cannot show."""
    if isinstance(default, enum.Enum):
        return default.value
    if isinstance(default, (list, tuple)):
        return [_plain(each) for each in default]
    return default if isinstance(default, (str, int, float)) else None


def given_by(workload: Workload, filled_in: Sequence[FilledIn]) -> dict[str, Any]:
    """Return the parameters that were filled in, for `Workload.checked`; raises `InvalidOption`.

    A field that was left empty is none that was filled in.
    """
    fields = {field.name: field for field in workload.fields}
    given: dict[str, list[Any]] = {}
    for part in filled_in:
        if part.text or part.file_name:
            field = fields.get(part.name)
            # What is not known is named by `checked`, and never looked at.
            given.setdefault(part.name, []).append(part.text if field is None else _value(field, part))
    return dict(_joined(fields, given))


def _joined(fields: dict[str, Field], given: dict[str, list[Any]]) -> Iterator[tuple[str, Any]]:
    for name, values in given.items():
        if name in fields and not fields[name].is_many and len(values) > 1:
            raise InvalidOption(name, f"{len(values)} of them", "one")
        yield name, values if name in fields and fields[name].is_many else values[0]


def _value(field: Field, part: FilledIn) -> Any:
    """Return what was filled in as the kind that *field* has; what cannot be that stays a text, which is refused."""
    if field.is_local:
        raise InvalidOption(field.name, "part of a form", "nothing: it is about the files of whoever asks")
    if field.kind is File:
        if part.file is None:
            raise InvalidOption(field.name, shown(part.text), "a file, as a part with a file name and its content")
        return File.sent(part.file_name, part.file.read())
    if part.file is not None:
        raise InvalidOption(field.name, "a file", field.expected)
    if field.kind is bool:
        return SWITCH.get(part.text.lower(), part.text)
    return _number(field.kind, part.text) if field.kind in (int, float) else part.text


def _number(kind: Any, text: str) -> Any:
    try:
        return kind(text) if text.isascii() and "_" not in text else text
    except ValueError:
        return text
