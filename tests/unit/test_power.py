"""The model of a disk without power: what was synced stays, and all the rest may be lost, torn and out of order."""

from __future__ import annotations

import random

from tests.faults.power import SECTOR, Disk, Entry, Kind

FILE, FOLDER = 10, 1
OLD, NEW = b"o" * SECTOR, b"n" * SECTOR


def write(at: int, data: bytes) -> Entry:
    return Entry(Kind.WRITE, inode=FILE, at=at, data=data)


def synced(path: str = "f", number: int = 1) -> list[Entry]:
    inode = FILE if path else FOLDER
    return [Entry(Kind.SYNC_BEGIN, path, inode=inode, at=number), Entry(Kind.SYNC_END, path, inode=inode, at=number)]


def leftovers(*entries: Entry, before: bytes | None = b"", draws: int = 300) -> list[dict[str, bytes]]:
    """What is left of a file called f, and of others, in many draws."""
    disk = Disk({} if before is None else {"f": (FILE, before)})
    for entry in entries:
        disk.do(entry)
    return [disk.leftover(random.Random(seed)) for seed in range(draws)]


def contents(*entries: Entry, before: bytes = b"") -> set[bytes]:
    return {files["f"] for files in leftovers(*entries, before=before)}


def test_what_was_synced_is_there_whatever_is_drawn() -> None:
    assert contents(write(0, b"abc"), *synced()) == {b"abc"}


def test_what_was_written_while_a_sync_went_on_may_be_lost() -> None:
    begin, end = synced()

    assert {b"a" + bytes(99), b"b" + bytes(99)} <= contents(begin, write(0, b"b"), end, before=b"a" + bytes(99))


def test_sectors_are_lost_each_by_itself_and_in_any_order() -> None:
    found = contents(write(0, NEW * 2), write(SECTOR * 2, NEW), before=OLD * 3)

    assert {OLD * 3, NEW * 3, NEW + OLD * 2, OLD + NEW + OLD, OLD * 2 + NEW} <= found
    assert {content[n * SECTOR : (n + 1) * SECTOR] for content in found for n in range(3)} == {OLD, NEW}


def test_writes_of_one_sector_stay_in_order() -> None:
    found = contents(write(0, b"1"), write(1, b"2"), before=b"..")

    assert found == {b"..", b"1.", b"12"}


def test_a_file_that_grew_has_any_of_its_sizes() -> None:
    found = contents(write(0, NEW), write(SECTOR, NEW))

    assert {len(content) for content in found} == {0, SECTOR, SECTOR * 2}
    assert bytes(SECTOR * 2) in found


def test_what_was_written_after_a_cut_is_not_there_without_it() -> None:
    cut = Entry(Kind.TRUNCATE, inode=FILE, at=0)

    found = contents(cut, write(0, b"n"), before=b"old")
    assert {b"old", b"", b"n"} <= found
    assert {len(content) for content in found if content != b"old"} == {0, 1}


def test_syncing_a_file_does_not_make_its_name_last() -> None:
    made = Entry(Kind.CREATE, "f", inode=FILE)

    assert {"f" in files for files in leftovers(made, write(0, b"a"), *synced(), before=None)} == {True, False}
    whole = leftovers(made, write(0, b"a"), *synced(), *synced("", 2), before=None)
    assert all(files == {"f": b"a"} for files in whole)


def test_a_renamed_file_is_there_under_one_name() -> None:
    renamed = Entry(Kind.RENAME, "f", "g")

    found = leftovers(renamed, before=b"a")
    assert {tuple(files) for files in found} == {("f",), ("g",)}
    assert all(files == {"g": b"a"} for files in leftovers(renamed, *synced(""), before=b"a"))


def test_what_was_removed_may_come_back() -> None:
    removed = Entry(Kind.UNLINK, "f")

    assert {"f" in files for files in leftovers(removed)} == {True, False}
    assert not any("f" in files for files in leftovers(removed, *synced("")))


def test_a_new_file_never_stands_where_nothing_of_its_past_does() -> None:
    """Of what happened to one name, later things have not happened without the earlier ones."""
    entries = [Entry(Kind.UNLINK, "f"), Entry(Kind.CREATE, "f", inode=FILE + 1)]

    assert {files.get("f") for files in leftovers(*entries, before=b"old")} == {b"old", None, b""}


def test_what_is_in_a_folder_is_gone_with_it() -> None:
    entries = [Entry(Kind.MKDIR, "d", inode=2), Entry(Kind.CREATE, "d/f", inode=FILE)]
    of_folder = [Entry(Kind.SYNC_BEGIN, "d", inode=2, at=1), Entry(Kind.SYNC_END, "d", inode=2, at=1)]

    assert {"d/f" in files for files in leftovers(*entries, *of_folder, before=None)} == {True, False}


def test_a_lying_disk_loses_what_was_synced() -> None:
    disk = Disk({"f-wal": (FILE, b"")}, lying=lambda path: path.endswith("-wal"))
    for entry in [write(0, b"abc"), *synced("f-wal")]:
        disk.do(entry)

    assert {disk.leftover(random.Random(seed))["f-wal"] for seed in range(50)} >= {b"", b"abc"}
