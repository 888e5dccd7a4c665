"""Jobs added by a browser: items as JSON, page after page, or a pattern that stands for many."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from itertools import islice
from typing import Annotated, Any, NamedTuple

import msgspec
from aiohttp import web
from msgspec.structs import replace

from .. import braces
from ..codec import pack, pack_json
from ..connection import KEY
from ..errors import InvalidOption
from ..verbs import AddedJobs, ItemsSubmission, brought_with
from .access import GRANT
from .answers import VERBS, decoded_json, json_answer, required
from .speaking import Parameter, json_of, speaks

AT_ONCE = 4096  #: items in one transaction
MOST = 1_000_000  #: items of one pattern: more are added by `dcengine jobs add`, which can go on where it was cut
SHOWN = 5  #: texts of a pattern that are shown before it is used
PATTERN_LIMIT = 10_000  #: characters
PATTERN = Parameter("pattern", Annotated[str, msgspec.Meta(min_length=1)], "As in a shell: ``s3://x/{000..999}.tar``.")


class Items(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be sent through a project: *items*, or what *pattern* stands for."""

    items: list[Any] = []
    pattern: Annotated[str, msgspec.Meta(max_length=PATTERN_LIMIT)] = ""  #: as in a shell: ``s3://x/{000..999}.tar``
    keys: list[str] | None = None  #: one for each item; a key that the project knows already makes no new job
    priority: int = 0
    #: As the answer to the page before has told: where a gather waits for them, all pages are parts of one job.
    root: Annotated[int, msgspec.Meta(ge=0, le=10**18)] | None = None
    is_last: bool = True  #: no page follows


class ItemsAdded(msgspec.Struct, frozen=True, kw_only=True):
    """How many jobs were made, and the numbers of the first and the last within their project."""

    count: int
    first: int
    last: int
    known: int = 0  #: items whose keys the project knew already
    root: int | None = None  #: the job whose parts they are


class Pattern(msgspec.Struct, frozen=True):
    """What a pattern stands for."""

    count: int
    first: list[str]  #: its first texts
    limit: int = MOST  #: more than so many are not taken here


class _Block(NamedTuple):
    values: list[bytes]
    keys: list[str] | None


_decoder = msgspec.json.Decoder(Items)


@speaks(query=[PATTERN.needed], answer=json_of(Pattern))
async def read_pattern(request: web.Request) -> web.Response:
    """Answer how many texts a pattern stands for, and the first few."""
    text = required(request, "pattern")
    if len(text) > PATTERN_LIMIT:
        raise InvalidOption("pattern", f"{len(text):,} characters long", f"at most {PATTERN_LIMIT:,}")
    row = braces.parse(text)
    return json_answer(Pattern(row.count(), list(islice(row.texts(), SHOWN))))


@speaks(body=json_of(Items), answer=json_of(ItemsAdded))
async def add(request: web.Request) -> web.Response:
    """Send items through a project, one job for each; where a gather waits for them, they are parts of one job.

    Said again under the same `Idempotency-Key`, to the next engine of the file too, it is done once.
    """
    wanted = await decoded_json(request, _decoder, "items, or a pattern")
    added, blocks = list[AddedJobs](), _blocks(wanted)
    block, root, once = next(blocks, None), wanted.root, said_once(request)
    if block is None:
        raise InvalidOption("items", "none", "at least one, or a pattern")
    while block is not None:
        following = next(blocks, None)
        submission = _submission(request, wanted, block, f"{once}-{len(added)}")
        is_last = following is None and wanted.is_last
        added.append(await request.app[VERBS].add_jobs(replace(submission, root=root, is_last=is_last)))
        root, block = added[-1].root, following
    last = added[-1].first_number + added[-1].count - 1
    count, known = sum(each.count for each in added), sum(each.known for each in added)
    return json_answer(ItemsAdded(count=count, first=added[0].first_number, last=last, known=known, root=root))


def _submission(request: web.Request, wanted: Items, block: _Block, once: str) -> ItemsSubmission:
    return ItemsSubmission(
        project=request.match_info["name"], blocks=[pack(block.values)], count=len(block.values), keys=block.keys,
        priority=wanted.priority, request=once, submitter=submitter_of(request),
    )  # fmt: skip


def said_once(request: web.Request) -> str:
    """Return what tells whether *request* was made before."""
    return f"dashboard-{request.headers.get(KEY) or uuid.uuid4().hex}"


def submitter_of(request: web.Request) -> str:
    """Return who brings what comes with *request*."""
    grant = request[GRANT]
    return brought_with((grant.nickname if grant is not None else None) or "dashboard", grant)


def _blocks(wanted: Items) -> Iterator[_Block]:
    """Yield the items, packed, so many at a time."""
    values, keys = iter(_values(wanted)), None if wanted.keys is None else iter(wanted.keys)
    while block := [pack_json(value, what="an item") for value in islice(values, AT_ONCE)]:
        yield _Block(block, None if keys is None else list(islice(keys, len(block))))


def _values(wanted: Items) -> Iterator[Any]:
    if not wanted.pattern:
        if wanted.keys is not None and len(wanted.keys) != len(wanted.items):
            raise InvalidOption("keys", f"{len(wanted.keys):,}", f"one for each of the {len(wanted.items):,} items")
        return iter(wanted.items)
    if wanted.items or wanted.keys is not None:
        raise InvalidOption("items", "given beside a pattern", "one of the two, and keys only for items")
    row = braces.parse(wanted.pattern)
    if row.count() > MOST:
        raise InvalidOption(
            "pattern", f"one of {row.count():,} texts", f"at most {MOST:,}; `dcengine jobs add` takes more"
        )
    return row.texts()
