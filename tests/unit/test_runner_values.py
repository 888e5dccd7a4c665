"""The values that a worker keeps, and what references mean where calls run."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from dcengine import codec
from dcengine.errors import DcengineError
from dcengine.references import key_of_value
from dcengine.runner.units import Unit
from dcengine.runner.values import LoadedValues, NewFile, UnknownValues, ValueTable, spool, spooled_in


@pytest.fixture
def table(tmp_path: Path) -> ValueTable:
    return ValueTable(tmp_path / "values", 100)


def add(table: ValueTable, key: bytes, size: int = 40) -> None:
    table.new_file(key).write_bytes(bytes(size))
    table.add_own(key, size)


def use(table: ValueTable, *keys: bytes) -> None:
    with table.at_hand(keys):
        pass


def test_above_the_limit_what_was_not_used_for_longest_goes(table: ValueTable) -> None:
    for key in (b"a", b"b"):
        add(table, key)
    use(table, b"a", b"b")
    use(table, b"a")
    add(table, b"c")

    assert [key in table for key in (b"a", b"b", b"c")] == [True, False, True]
    assert sorted(path.name for path in table.folder.iterdir()) == [b"a".hex(), b"c".hex()]


def test_what_a_running_call_needs_stays_whatever_comes(table: ValueTable) -> None:
    add(table, b"a")
    with table.at_hand([b"a"]) as places:
        for key in (b"b", b"c", b"d"):
            add(table, key)
            use(table, key)
        assert Path(places[b"a"]).exists()
    for key in (b"e", b"f"):
        add(table, key)
        use(table, key)

    assert b"a" not in table


def test_what_came_for_a_call_is_not_dropped_before_the_call_has_begun(table: ValueTable) -> None:
    for key in (b"a", b"b", b"c", b"d"):
        add(table, key)

    with table.at_hand((b"a", b"b", b"c", b"d")) as places:  # though they take more than there may be
        assert all(Path(place).exists() for place in places.values())

    assert sum(key in table for key in (b"a", b"b", b"c", b"d")) == 2


def test_results_of_which_there_is_no_other_go_last(table: ValueTable) -> None:
    left = spool([b"x" * 40], table.spool(), stays=True)
    table.adopt(b"r", left.name, left.size)
    for key in (b"a", b"b"):
        add(table, key)
        use(table, key)

    assert [key in table for key in (b"r", b"a", b"b")] == [True, False, True]
    assert table.read(b"r", 10, 5) == b"xxxxx"
    assert table.read(b"a", 0, 5) is None


def test_what_is_not_there_is_named(table: ValueTable, tmp_path: Path) -> None:
    add(table, b"a")
    elsewhere = tmp_path / "file"
    elsewhere.write_bytes(b"value")

    assert not table.add_file(b"b", str(elsewhere), 6)
    assert table.add_file(b"b", str(elsewhere), 5)
    elsewhere.unlink()
    with pytest.raises(UnknownValues) as caught:
        use(table, b"a", b"b", b"c")
    assert caught.value.keys == [b"b", b"c"]


def test_files_of_others_are_not_removed(table: ValueTable, tmp_path: Path) -> None:
    elsewhere = tmp_path / "file"
    elsewhere.write_bytes(bytes(500))
    table.add_file(b"a", str(elsewhere), 500)
    table.drop(b"a")

    assert elsewhere.exists()


def test_a_result_in_a_file_says_what_it_is(tmp_path: Path) -> None:
    pieces = [b"head", memoryview(bytes(10 << 20)), b"tail"]
    left = spool(pieces, str(tmp_path / "new"))
    found = spooled_in(left.packed)

    data = b"".join(pieces)
    assert found is not None
    assert (found.digest, found.size) == (hashlib.sha256(data).digest(), len(data))
    assert (tmp_path / "new" / found.name).read_bytes() == data
    assert spooled_in(b"\x80\x05value") is None


@pytest.mark.parametrize("name", [b"../../etc/passwd", b"result.1", b"/abs"])
def test_a_name_that_no_result_has_is_refused(tmp_path: Path, name: bytes) -> None:
    record = spool([b"x"], str(tmp_path)).packed

    with pytest.raises(Exception, match="which no result is called"):
        spooled_in(record[: record.index(b"result.")] + name)


def test_a_file_that_is_not_finished_is_not_left(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with NewFile(path) as file:
        file.write(b"some")

    assert not path.exists()


def test_loaded_values_stay_as_long_as_there_is_room_for_them(tmp_path: Path) -> None:
    places = {key_of_value(bytes([n]) * 32): str(tmp_path / str(n)) for n in range(3)}
    for place in places.values():
        Path(place).write_bytes(codec.dumps(["x" * 1000]))
    unit = Unit(id=1, function=b"", name="f", code=None, items=b"", count=1, values=list(places), places=places)
    loaded = LoadedValues(limit=2500)
    first, second, third = places
    with loaded.of(unit):
        kept = loaded.resolve(first)
        assert loaded.resolve(first) is kept
        loaded.resolve(second)
        loaded.resolve(first)
        loaded.resolve(third)

        assert loaded.resolve(first) is kept
        assert set(loaded._loaded) == {first, third}
    with pytest.raises(DcengineError, match="in the arguments of a call"):
        loaded.resolve(first)
