"""What items are read from: every item as it was written, and what is wrong is named with its place."""

from __future__ import annotations

import json
import math
import os
import threading
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from dcengine import sources
from dcengine.errors import InvalidOption, InvalidSource


@pytest.fixture(params=[1 << 20, 7, 2])
def piece(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Have files read in pieces of so many bytes."""
    monkeypatch.setattr(sources, "PIECE", request.param)
    return int(request.param)


def read(kind: str, folder: Path, data: bytes) -> list[Any]:
    file = folder / "items"
    file.write_bytes(data)
    return list(sources.opened(kind, str(file)))


def refused(kind: str, folder: Path, data: bytes) -> str:
    """Return what is said of a file with *data*, without its name."""
    with pytest.raises(InvalidSource) as error:
        read(kind, folder, data)
    return error.value.problem


# ---- lines ---------------------------------------------------------------------------------


@pytest.mark.usefixtures("piece")
def test_lines_lose_their_ends_and_nothing_else(tmp_path: Path) -> None:
    data = "one\r\n two \n\n\u2028b\x0bc\x85\n\u00e4\U0001f600\nlast".encode()

    assert read("txt", tmp_path, data) == ["one", " two ", "", "\u2028b\x0bc\x85", "ä😀", "last"]


@pytest.mark.usefixtures("piece")
def test_a_line_feed_at_the_end_opens_no_further_line(tmp_path: Path) -> None:
    assert read("txt", tmp_path, b"one\ntwo\n") == ["one", "two"]


def test_empty_lines_are_items_and_are_counted(tmp_path: Path) -> None:
    file = tmp_path / "list.txt"
    file.write_text("one\n\n\ntwo\n")

    lines = sources.opened("txt", str(file))

    assert list(lines) == ["one", "", "", "two"]
    assert lines.note == "empty lines among the items: 2"


def test_an_empty_text_has_no_lines(tmp_path: Path) -> None:
    assert read("txt", tmp_path, b"") == []


def test_the_mark_before_utf_8_is_no_part_of_the_first_line(tmp_path: Path) -> None:
    assert read("txt", tmp_path, b"\xef\xbb\xbfone\ntwo") == ["one", "two"]
    assert read("json", tmp_path, b'\xef\xbb\xbf["one"]') == ["one"]


@pytest.mark.usefixtures("piece")
def test_bytes_that_are_no_text_are_named_by_their_line(tmp_path: Path) -> None:
    assert refused("txt", tmp_path, b"one\ntwo\nthr\xe9e\nfour\n") == "line 3 is no UTF-8 text, from its byte 4 on"


@pytest.mark.usefixtures("piece")
def test_a_line_above_the_limit_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "LONGEST", 20 if sources.PIECE < 20 else sources.PIECE)
    data = b"one\ntwo\n" + b"x" * (sources.LONGEST + 1) + b"\nfour"

    assert "longer than" in refused("txt", tmp_path, data)


def test_a_line_above_the_limit_is_refused_before_it_is_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "LONGEST", 4 << 20)
    file = tmp_path / "items"
    with open(file, "wb") as written:
        written.truncate(1 << 30)  # a file with holes: it takes no room
    tracemalloc.start()

    with pytest.raises(InvalidSource, match="line 1 is longer than 4,194,304 bytes"):
        list(sources.opened("txt", str(file)))

    assert tracemalloc.get_traced_memory()[1] < 16 << 20
    tracemalloc.stop()


# ---- a value on each line ------------------------------------------------------------------


@pytest.mark.usefixtures("piece")
def test_each_line_is_a_value_and_empty_ones_are_passed_over(tmp_path: Path) -> None:
    data = b'1\n\n{"a": [2.5, null]}\r\n  \n "\\ud800" \n123456789012345678901234567890'

    assert read("ndjson", tmp_path, data) == [1, {"a": [2.5, None]}, "\ud800", 123456789012345678901234567890]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b'{"a" 1}', "line 3 is no JSON: expecting ':' delimiter at its character 6"),
        (b"1 2", "line 3 is no JSON: extra data at its character 3"),
        (b"nope", "line 3 is no JSON: expecting value at its character 1"),
        (b"[" * 100_000, "line 3 is nested too deeply"),
    ],
)
def test_a_line_that_is_no_json_is_named(tmp_path: Path, line: bytes, problem: str) -> None:
    assert refused("ndjson", tmp_path, b"1\n2\n" + line + b"\n4") == problem


# ---- a JSON list ---------------------------------------------------------------------------


@pytest.mark.usefixtures("piece")
def test_a_list_gives_what_json_loads_gives(tmp_path: Path) -> None:
    values = ["\ud800", "a\U0001f600ä", 10**30, -0.0, 1.5e-7, 1e22, True, None, "", [], {}, [[1], {"a": {"b": [2]}}], 7]
    text = json.dumps(values, indent=3)

    assert read("json", tmp_path, text.encode()) == json.loads(text)
    assert read("json", tmp_path, json.dumps(values, separators=(",", ":")).encode()) == values


@pytest.mark.usefixtures("piece")
def test_a_list_written_by_python_may_hold_nan(tmp_path: Path) -> None:
    nan, infinity, least = read("json", tmp_path, b"[NaN, Infinity ,-Infinity]")

    assert math.isnan(nan)
    assert (infinity, least) == (math.inf, -math.inf)


@pytest.mark.usefixtures("piece")
def test_a_list_may_be_empty(tmp_path: Path) -> None:
    assert read("json", tmp_path, b" [ \n ] \n") == []


NO_LIST = [
    (b"", "it is empty, not a JSON list"),
    (b"  \n ", "it is empty, not a JSON list"),
    (b'{"a": 1}', "it is not a JSON list, which begins with '[': '{' stands at line 1, character 1"),
    (b'\n "a"', "it is not a JSON list, which begins with '[': '\"' stands at line 2, character 2"),
    (b"one\ntwo\n", "it is not a JSON list, which begins with '[': 'o' stands at line 1, character 1"),
]


@pytest.mark.usefixtures("piece")
@pytest.mark.parametrize(("data", "problem"), NO_LIST)
def test_what_is_no_list_is_refused_before_its_first_item(tmp_path: Path, data: bytes, problem: str) -> None:
    file = tmp_path / "items"
    file.write_bytes(data)

    with pytest.raises(InvalidSource) as error:
        next(iter(sources.opened("json", str(file))))

    assert error.value.problem == problem


@pytest.mark.usefixtures("piece")
@pytest.mark.parametrize(
    ("data", "items", "problem"),
    [
        (b"[1, 2", 1, "the list ends too early at line 1, character 6"),
        (b"[1,\n2,", 2, "the list ends too early at line 2, character 3"),
        (b"[1,\n2,]", 2, "no JSON value begins at line 2, character 3"),
        (b"[1, 2 3]", 2, "',' or ']' is missing at line 1, character 7"),
        (b"[1, 23x4, 5]", 2, "',' or ']' is missing at line 1, character 7"),
        (b'[1, "two', 1, "unterminated string at line 1, character 5"),
        (b'[1,\n{"a" 2}]', 1, "expecting ':' delimiter at line 2, character 6"),
        (b'[1, "a\nb"]', 1, "invalid control character at line 1, character 7"),
        (b"[1, nope, 2, 3, 4, 5, 6]", 1, "no JSON value begins at line 1, character 5"),
        (b"[1] [2]", 1, "something stands behind the list at line 1, character 5"),
        (b'["a", "\xff"]', 1, "it is no UTF-8 text, from its byte 8 on"),
        (b'["a", "\xc3', 1, "it is no UTF-8 text, from its byte 8 on"),
    ],
)
def test_a_broken_list_says_where_and_gives_what_is_before(
    tmp_path: Path, data: bytes, items: int, problem: str
) -> None:
    file = tmp_path / "items"
    file.write_bytes(data)
    found: list[Any] = []

    with pytest.raises(InvalidSource) as error:
        found.extend(sources.opened("json", str(file)))

    assert error.value.problem == problem
    assert len(found) == items or ("UTF-8" in problem and len(found) < items)  # such bytes spoil their whole piece


def test_a_list_nested_without_end_is_refused(tmp_path: Path) -> None:
    assert refused("json", tmp_path, b"[" * 200_000) == "an item is nested too deeply at line 1, character 2"


def test_an_item_above_the_limit_is_refused_before_it_is_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "LONGEST", 4 << 20)
    file = tmp_path / "items"
    with open(file, "wb") as written:
        written.write(b'[1, "')
        for _ in range(64):
            written.write(b"x" * (1 << 20))
    tracemalloc.start()

    with pytest.raises(InvalidSource, match="an item is longer than 4,194,304 characters at line 1, character 5"):
        list(sources.opened("json", str(file)))

    assert tracemalloc.get_traced_memory()[1] < 48 << 20
    tracemalloc.stop()


def test_a_long_list_is_read_in_little_memory(tmp_path: Path) -> None:
    file = tmp_path / "list.json"
    with open(file, "w") as written:
        written.write("[0")
        for block in range(300):
            written.write("".join(f', "s3://bucket/{block:03}/{n:06}.tar"' for n in range(1000)))
        written.write("]")
    tracemalloc.start()

    count = sum(1 for _ in sources.opened("json", str(file)))

    assert count == 300_001
    assert file.stat().st_size > 8 << 20
    assert tracemalloc.get_traced_memory()[1] < 6 << 20
    tracemalloc.stop()


# ---- which source --------------------------------------------------------------------------


def test_a_file_is_known_again_by_its_path_and_a_pattern_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "list.txt").write_text("one\n")
    monkeypatch.chdir(tmp_path)

    assert sources.opened("txt", "list.txt").name == f"txt {tmp_path}/list.txt"
    assert sources.opened("brace", "{a,b}").name == "brace {a,b}"


def test_how_much_there_is_is_known_of_files_and_patterns(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("one\ntwo\n")
    lines, pattern = sources.opened("txt", str(tmp_path / "list.txt")), sources.opened("brace", "{1..12}")

    assert (lines.total, pattern.total) == (8, 12)
    assert (len(list(lines)), len(list(pattern))) == (2, 12)
    assert (lines.done, pattern.done) == (8, 12)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
def test_what_comes_out_of_a_pipe_has_no_name_and_no_end_that_is_known(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writing = threading.Thread(target=lambda: pipe.write_text("one\ntwo"))
    writing.start()

    lines = sources.opened("txt", str(pipe))
    writing.join()

    assert (lines.name, lines.total) == (None, None)
    assert list(lines) == ["one", "two"]


@pytest.mark.parametrize("place", ["missing.json", "."])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(InvalidOption, match=f"--json cannot be '{place}'; expected a file that can be read: "):
        sources.opened("json", place)
