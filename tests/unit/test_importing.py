"""Imports over an engine in memory that keeps how far each has come: nothing is lost, nothing is added twice."""

from __future__ import annotations

import hashlib
import random
import struct
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import msgspec
import pytest

from dcengine import importing
from dcengine.errors import EngineUnreachable, ImportChanged, InvalidSource, NotFound
from dcengine.importing import Digest, Import, Options, unused_name
from tests.unit.import_double import Engine


class Items:
    """A source made of what is at hand; with an error, it breaks at its end."""

    name = "txt /list.txt"
    title = "/list.txt"
    total = None
    note = ""

    def __init__(self, items: Iterable[Any], broken: Exception | None = None) -> None:
        self.done = 0
        self._items, self._broken = items, broken

    def __iter__(self) -> Iterator[Any]:
        yield from self._items
        if self._broken:
            raise self._broken


@pytest.fixture(autouse=True)
def blocks_of_ten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "BLOCK_ITEMS", 10)


def bring(engine: Engine, items: Iterable[Any], **options: Any) -> Import:
    """Import *items* to the end."""
    bringing = Import(engine, "photos", Items(items), **{"name": "list", **options})
    for _ in bringing.steps():
        pass
    return bringing


def lines(count: int) -> list[str]:
    return [f"photo {number}.jpg" for number in range(count)]


# ---- from the beginning to the end ---------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 9, 10, 11, 20, 57])
def test_every_item_becomes_a_job_in_its_order(count: int) -> None:
    engine = Engine()

    bringing = bring(engine, lines(count))

    assert engine.values == lines(count)
    assert (bringing.added, bringing.items, bringing.seen) == (count, count, count)


def test_an_import_needs_no_name() -> None:
    engine = Engine()

    bring(engine, lines(25), name=None)
    bring(engine, lines(25), name=None)

    assert engine.values == lines(25) * 2
    assert engine.records == {}


def test_what_is_asked_of_the_jobs_goes_with_every_block() -> None:
    engine = Engine()

    bring(engine, lines(25), options=Options(priority=3, not_before=5.0, keep=60.0))

    assert [(each.priority, each.not_before, each.keep) for each in engine.submissions] == [(3, 5.0, 60.0)] * 3


def test_values_stay_what_they_were() -> None:
    values = ["text", "\ud800", 1, 1.5, None, True, [1, {"a": None}], float("inf"), 10**30]
    engine = Engine()

    bring(engine, values)

    assert engine.values == values


def test_a_block_has_no_more_bytes_than_one_submission_should_have(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "BLOCK_BYTES", 100)
    engine = Engine()

    bring(engine, ["x" * 40, "y" * 40, "z" * 40, "a" * 400, "b"])

    assert [each.count for each in engine.submissions] == [2, 1, 1, 1]


def test_an_item_s_own_text_is_its_key() -> None:
    engine = Engine()

    first = bring(engine, ["a", "b", 7, {"x": 1}], name="one", options=Options(with_keys=True))
    second = bring(engine, ["b", "c", {"x": 1}], name="two", options=Options(with_keys=True))

    assert engine.values == ["a", "b", 7, {"x": 1}, "c"]
    assert engine.submissions[0].keys == ["a", "b", "7", '{"x":1}']
    assert (first.added, first.known) == (4, 0)
    assert (second.added, second.known) == (1, 2)


# ---- going on ------------------------------------------------------------------------------


def test_a_complete_import_adds_nothing_more() -> None:
    engine = Engine()
    bring(engine, lines(25))
    before = len(engine.submissions)

    again = bring(engine, lines(25))

    assert engine.values == lines(25)
    assert len(engine.submissions) == before
    assert again.record is not None
    assert (again.added, again.items, again.record.items) == (0, 25, 25)


def test_a_list_that_grew_adds_only_what_is_new() -> None:
    engine = Engine()
    bring(engine, lines(25))

    longer = bring(engine, lines(40))

    assert engine.values == lines(40)
    assert longer.added == 15


@pytest.mark.parametrize(
    "changed",
    [
        ["another.jpg", *lines(25)[1:]],
        [*lines(24), "another.jpg"],
        lines(24),
        [*lines(12), *lines(25)[13:]],
        ["photo 0.jpgphoto 1.jpg", "", *lines(25)[2:]],
        [],
    ],
    ids=["first", "last", "shorter", "one left out", "cut elsewhere", "empty"],
)
def test_a_list_that_changed_is_refused_before_anything_is_added(changed: list[str]) -> None:
    engine = Engine()
    bring(engine, lines(25))

    with pytest.raises(ImportChanged) as refused:
        bring(engine, changed + ["more"] * 20)

    assert engine.values == lines(25)
    assert refused.value.items == 25
    assert "25 item(s)" in str(refused.value)
    assert "--import OTHERNAME" in str(refused.value)
    assert "--again" in str(refused.value)


def test_the_same_list_in_another_project_is_another_import() -> None:
    engine = Engine()
    bring(engine, lines(5))

    other = Import(engine, "films", Items(lines(5)), name="list")
    assert [*other.steps()]

    assert engine.values == lines(5) * 2


def test_a_name_that_was_used_is_counted_on() -> None:
    engine = Engine()

    assert unused_name(engine, "photos", "list") == "list"
    bring(engine, lines(5))
    assert unused_name(engine, "photos", "list") == "list (2)"
    bring(engine, lines(5), name="list (2)")
    assert unused_name(engine, "photos", "list") == "list (3)"


def test_stopped_anywhere_and_tried_again_nothing_is_lost_or_doubled() -> None:
    chance = random.Random(4)
    for _ in range(200):
        engine, items = Engine(), lines(chance.randrange(60))
        while True:
            bringing = Import(engine, "photos", Items(items), name="list")
            steps = chance.randrange(8)
            if len(list(islice(bringing.steps(), steps))) < steps:  # it came to its end
                break
        assert engine.values == items


def test_an_engine_that_goes_away_is_told_of_and_found_where_it_was() -> None:
    engine = Engine()
    gone = EngineUnreachable("http://127.0.0.1:8787", "nobody listens")
    engine.failing = lambda submission: gone if len(engine.values) >= 20 else None
    bringing = Import(engine, "photos", Items(lines(50)), name="list")

    with pytest.raises(EngineUnreachable):
        list(bringing.steps())
    bringing.stop()

    assert bringing.items == 20
    engine.failing = lambda submission: None
    assert bring(engine, lines(50)).added == 30
    assert engine.values == lines(50)


def test_two_that_bring_the_same_at_once_bring_it_once() -> None:
    engine = Engine()
    one, other = (Import(engine, "photos", Items(lines(50)), name="list") for _ in range(2))
    turns = [one.steps(), other.steps()]

    while turns:
        turns = [turn for turn in turns if next(turn, over := object()) is not over]

    assert engine.values == lines(50)
    assert one.added + other.added == 50
    assert one.items == other.items == 50


def test_an_unknown_project_is_said_so() -> None:
    engine = Engine()
    engine.failing = lambda submission: NotFound("project", "photos")

    with pytest.raises(NotFound, match="photos"):
        bring(engine, lines(3))


def test_a_source_that_breaks_keeps_the_blocks_before_it() -> None:
    engine = Engine()
    broken = Items(lines(27), InvalidSource("list.json", "no JSON value begins at line 1, character 9"))

    with pytest.raises(InvalidSource) as refused:
        list(Import(engine, "photos", broken, name="list").steps())

    assert engine.values == lines(20)
    assert refused.value.added == 20
    assert "the 20 item(s) before it are in the project" in str(refused.value)
    assert bring(engine, lines(30)).added == 10
    assert engine.values == lines(30)


def test_a_source_that_breaks_at_once_adds_nothing() -> None:
    engine = Engine()

    with pytest.raises(InvalidSource, match=r"list\.json: it is empty, not a JSON list; nothing was added"):
        list(Import(engine, "photos", Items([], InvalidSource("list.json", "it is empty, not a JSON list"))).steps())

    assert engine.submissions == []


# ---- a gather that waits for all of it -----------------------------------------------------


def test_all_items_are_parts_of_one_root_and_the_last_block_says_so() -> None:
    engine = Engine(gathers=True)

    bring(engine, lines(40))

    assert [each.root for each in engine.submissions] == [None, 1, 1, 1]
    assert [each.is_last for each in engine.submissions] == [False, False, False, True]


def test_an_import_that_is_taken_up_goes_on_with_its_root() -> None:
    engine = Engine(gathers=True)
    stopped = Import(engine, "photos", Items(lines(40)), name="list")
    list(islice(stopped.steps(), 2))

    bring(engine, lines(40))

    assert engine.values == lines(40)
    assert set(engine.roots) == {1}
    assert [each.is_last for each in engine.submissions] == [False, False, False, True]


def test_what_breaks_off_does_not_say_that_it_was_the_last() -> None:
    engine = Engine(gathers=True)

    with pytest.raises(InvalidSource):
        list(Import(engine, "photos", Items(lines(20), InvalidSource("list", "broken")), name="list").steps())

    assert [each.is_last for each in engine.submissions] == [False]


def test_what_is_new_after_the_parts_were_gathered_gets_a_root_of_its_own() -> None:
    engine = Engine(gathers=True)
    bring(engine, lines(10))
    engine.roots[1] = "queued"

    bring(engine, lines(30))

    assert [each.root for each in engine.submissions] == [None, None, 2]
    assert engine.values == lines(30)


# ---- the digest ----------------------------------------------------------------------------


def test_the_digest_is_that_of_lengths_and_values_however_they_are_cut() -> None:
    values = [b"", b"a", b"bc", b"\0" * 300]
    expected = hashlib.sha256(b"".join(struct.pack("<Q", len(value)) + value for value in values)).digest()
    whole, parted = Digest(), Digest()

    whole.add(values)
    parted.add(values[:1])
    parted.add(values[1:])

    assert whole.value == parted.value == expected
    assert whole.items == parted.items == 4


def test_before_the_first_item_the_digest_is_empty() -> None:
    assert Digest().value == b""
    assert msgspec.msgpack.encode(Digest().value)
