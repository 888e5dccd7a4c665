"""What packed values look like, and that looking at them runs nothing."""

from __future__ import annotations

import collections
import os
import pickle
import pickletools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dcengine import codec
from dcengine.files import TAIL, head_of
from dcengine.glances import LARGEST, TEXT_LIMIT, bytes_in, glance, glance_at_beginning, glance_at_failure, media_of

PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "None"), (True, "True"), (7, "7"), (-(2**70), str(-(2**70))), (0.1, "0.1"), (float("inf"), "inf"),
        ("Ada", '"Ada"'), ('say "x"\n', '"say \\"x\\"\\n"'), ((), "()"), ((1,), "(1,)"), ((1, 2, 3, 4), "(1, 2, 3, 4)"),
        ([], "[]"), ([1, [2, "x"]], '[1, [2, "x"]]'), ({}, "{}"), ({"a": 1, 2: None}, '{"a": 1, 2: None}'),
        ({5}, "{5}"), (frozenset({5}), "{5}"), ([b"ab"], "[b'ab']"),
        ({"x": [{"y": (1.5, "z")}]}, '{"x": [{"y": (1.5, "z")}]}'),
    ],
)  # fmt: skip
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_data_is_shown_as_python_would_write_it(value: object, text: str, protocol: int) -> None:
    if (protocol < 4 and isinstance(value, (set, frozenset))) or (protocol < 3 and "b'" in text):
        pytest.skip("such a pickle calls something")

    seen = glance(b"\x80\x02" + pickle.dumps(value, protocol) if protocol < 2 else pickle.dumps(value, protocol))

    assert (seen.kind, seen.text) == ("python", text)


def test_what_dcengine_packs_is_shown() -> None:
    assert glance(codec.pack_json({"url": "s3://x", "n": [1, None]}, what="x")).text == '{"url":"s3://x","n":[1,null]}'
    assert glance(codec.pack_call((1, "x"), {"k": [2]})).text == '((1, "x"), {"k": [2]})'
    assert glance(None).kind == glance(b"").kind == "nothing"


@pytest.mark.parametrize("value", [np.zeros(3), np.zeros(100_000), collections.OrderedDict(a=1), Path("x"), len])
def test_objects_are_shown_by_what_makes_them(value: Any) -> None:
    seen = glance(codec.dumps(value))

    assert seen.kind == "object"
    assert seen.text
    assert seen.size > 0


def test_the_class_of_an_object_is_named() -> None:
    assert glance(codec.dumps(collections.OrderedDict(a=1))).text == "collections.OrderedDict"
    assert glance(codec.dumps([1, collections.OrderedDict(a=1)])).text == "[1, <collections.OrderedDict>]"


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch exploded",)


def test_looking_runs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        seen = glance(pickle.dumps([Bomb()], protocol))
        assert "system" in seen.text
    assert not os.listdir(tmp_path)


def test_pictures_are_recognised_and_can_be_had() -> None:
    seen = glance(codec.dumps(PNG))

    assert (seen.kind, seen.media) == ("picture", "image/png")
    assert bytes_in(codec.dumps(PNG)) == PNG
    assert [media_of(each) for each in (b"GIF89a...", b"\xff\xd8\xff\xe0", b"RIFF....WEBP")] == [
        "image/gif", "image/jpeg", "image/webp",
    ]  # fmt: skip
    for other in (b"<svg onload='alert(1)'>", b"<html>", b""):
        assert glance(codec.dumps(other)).kind == "bytes"


def test_movies_are_recognised_also_by_their_beginning_and_other_files_of_that_form_are_none() -> None:
    movie = b"\0\0\0\x20ftypisom".ljust(1000, b"\0")
    whole, beginning = glance(codec.dumps(movie)), glance_at_beginning(codec.dumps(movie)[:64], 1 << 30)

    assert (whole.kind, whole.media) == (beginning.kind, beginning.media) == ("movie", "video/mp4")
    assert beginning.size == 1 << 30
    assert media_of(movie.replace(b"isom", b"heic")) == ""
    assert glance_at_beginning(codec.dumps([1] * 100)[:64], 1 << 30).kind == "object"


def test_bytes_text_and_json_are_found_without_being_unpickled() -> None:
    for value in (b"", b"x" * 10, b"x" * 300, b"x" * 100_000, bytes(LARGEST + 1)):
        assert bytes_in(codec.dumps(value)) == value
        assert bytes_in(head_of(len(value)) + value + TAIL) == value
        assert codec.loads(head_of(len(value)) + value + TAIL) == value
    assert bytes_in(codec.dumps("text")) == b"text"
    assert bytes_in(codec.pack_json({"a": 1}, what="x")) == b'{"a":1}'
    for other in (7, [b"x"], (b"x", b"y"), object):
        assert bytes_in(codec.dumps(other)) is None


@pytest.mark.parametrize("pack", [codec.dumps, lambda value: codec.pack_json(value, what="it")])
def test_lists_of_records_and_of_rows_are_tables(pack: Callable[[object], bytes]) -> None:
    records = glance(pack([{"name": "a", "n": 1}, {"name": "b", "more": [2]}])).table
    rows = glance(pack([[1, "x"], [2, "y"]])).table
    many = glance(pack([{"n": n} for n in range(500)])).table

    assert records is not None
    assert rows is not None
    assert many is not None
    assert (records.columns, records.rows) == (["name", "n", "more"], [["a", "1", ""], ["b", "", "[2]"]])
    assert (rows.columns, rows.rows, rows.count) == ([], [["1", "x"], ["2", "y"]], 2)
    assert (len(many.rows), many.count) == (100, 500)
    for other in ([], [1, 2], [[1, 2], [3]], {"a": 1}, "text", [[1], [2]], [{}]):
        assert glance(pack(other)).table is None


def test_long_and_large_values_are_cut() -> None:
    long = glance(codec.dumps("x" * 100_000))
    many = glance(codec.dumps(list(range(5000))))
    json = glance(codec.pack_json("y" * 100_000, what="y"))

    for seen in (long, many, json):
        assert seen.is_cut
        assert len(seen.text) == TEXT_LIMIT
    assert glance(codec.dumps(bytes(LARGEST))).kind == "object"
    assert glance(codec.dumps([list(range(1000))] * 100)).kind in ("object", "python")


@pytest.mark.parametrize(
    "hostile",
    [
        b"\x80", b"\x80\x05", b"\x80\x05.", b"\x80\x04h\x00.", b"O", b"R", b"R\xff\xff\xff\xff",
        b"O\xff\xff\xff\xff" + bytes(40),
        b"\x80\x05" + b"]\x94" + b"h\x00a" * 3 + b".",  # a list in itself
        b"\x80\x05" + b"(" * 60_000 + b".", b"\x80\x05" + b"]" * 60_000 + b"a" * 59_999 + b".",
        b"\x80\x05\x8d" + (2**60).to_bytes(8, "little") + b"x.", b"\x80\x05r\xff\xff\xff\xff.", os.urandom(1000),
        b"nonsense",
        b"\x80\x05)R.", b"\x80\x05tttt.", b"\x80\x05K\x01u.",
    ],
)  # fmt: skip
def test_whatever_is_there_can_be_looked_at(hostile: bytes) -> None:
    seen = glance(hostile)

    assert len(seen.text) <= TEXT_LIMIT
    bytes_in(hostile)


def test_values_that_hold_each_other_many_times_are_cut() -> None:
    value: list[Any] = ["x"]
    for _ in range(50):
        value = [value, value]

    assert len(glance(pickle.dumps(value)).text) <= TEXT_LIMIT


def test_a_failure_is_shown_with_its_traceback() -> None:
    try:
        int("seven")
    except ValueError as error:
        failure = codec.pack_failure(codec.failure_from(error))

    seen = glance_at_failure(failure)

    assert seen.kind == "failure"
    assert seen.text.startswith("ValueError: invalid literal")
    assert "Traceback" in seen.traceback


def test_every_instruction_is_known_or_refused() -> None:
    assert len(pickletools.opcodes) == 68  # whoever adds one has to say here what it means
