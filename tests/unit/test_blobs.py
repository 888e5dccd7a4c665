"""Values outside the file, in a folder and behind fsspec."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import stat
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import _registry

from dcengine import blobs as public
from dcengine.blobs import Blobs, blobs, digest_of, is_reference, size_of
from dcengine.codec import dumps, pack, pack_json
from dcengine.errors import BlobCorrupt, BlobError, BlobMissing, BlobPlaceFailed, DiskFull, InvalidOption

VALUE = dumps(b"value" * 300_000)


class ObjectStore(MemoryFileSystem):
    """A store that, like S3, shows nothing unfinished and moves nothing."""

    protocol = "gs"
    store: dict[str, Any] = {}
    pseudo_dirs = [""]

    def mv(self, *args: Any, **kwargs: Any) -> None:
        raise AssertionError("moving is copying here")

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(MemoryFileSystem._strip_protocol(path.replace("gs://", "memory://")))


@pytest.fixture(params=["folder", "memory", "objects"])
async def kept(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Blobs]:
    """Blobs in each kind of place."""
    monkeypatch.setitem(_registry, "gs", ObjectStore)
    name = tmp_path.name
    urls = {"folder": str(tmp_path / "a" / "blobs"), "memory": f"memory://{name}/b", "objects": f"gs://{name}/b"}
    subject = Blobs(urls[request.param], "5707e")
    yield subject
    await subject.close()


def listed(subject: Blobs) -> dict[str, bytes]:
    """Return the files below the place, by their path."""
    files, root = fsspec.core.url_to_fs(subject._place.name)
    return {path.removeprefix(root).lstrip("/"): files.cat_file(path) for path in files.find(root)}


def written(subject: Blobs, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the list of paths that will be written from now on."""
    paths: list[str] = []
    write = subject._place.write

    def noted(path: str, data: bytes) -> None:
        paths.append(path)
        write(path, data)

    monkeypatch.setattr(subject._place, "write", noted)
    return paths


# ---- in any place --------------------------------------------------------------------------


async def test_what_was_put_can_be_got(kept: Blobs) -> None:
    reference = await kept.put(VALUE)

    assert await kept.get(reference) == VALUE
    assert len(reference) == 41
    assert is_reference(reference)
    assert (digest_of(reference), size_of(reference)) == (hashlib.sha256(VALUE).digest(), len(VALUE))


async def test_it_lies_below_the_store_by_its_digest_and_nothing_else_does(kept: Blobs) -> None:
    name = digest_of(await kept.put(VALUE)).hex()

    assert listed(kept) == {f"5707e/{name[:2]}/{name}": VALUE}


async def test_an_empty_value_is_a_value(kept: Blobs) -> None:
    assert await kept.get(await kept.put(b"")) == b""


async def test_what_is_there_is_not_written_again(kept: Blobs, monkeypatch: pytest.MonkeyPatch) -> None:
    first = await kept.put(VALUE)
    paths = written(kept, monkeypatch)

    assert await kept.put(VALUE) == first
    assert paths == []


async def test_the_same_value_put_many_times_at_once_is_written_once(
    kept: Blobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = written(kept, monkeypatch)
    references = await asyncio.gather(*[kept.put(VALUE) for _ in range(20)])

    assert len(set(references)) == 1
    assert len(paths) == 1


async def test_many_values_at_once_come_back_whole(kept: Blobs) -> None:
    values = [os.urandom(50_000) for _ in range(40)]
    references = await asyncio.gather(*map(kept.put, values))

    assert await asyncio.gather(*map(kept.get, references)) == values


async def test_two_databases_may_share_a_place(kept: Blobs) -> None:
    other = Blobs(kept._place.name, "0the2")
    reference = await kept.put(VALUE)

    with pytest.raises(BlobMissing):
        await other.get(reference)
    await other.put(VALUE)
    await other.delete(digest_of(reference))
    assert await kept.get(reference) == VALUE
    await other.close()


async def test_a_missing_value_is_named_with_its_place(kept: Blobs) -> None:
    reference = await kept.put(VALUE)
    await kept.delete(digest_of(reference))

    with pytest.raises(BlobMissing) as caught:
        await kept.get(reference)
    assert digest_of(reference).hex() in str(caught.value)
    assert kept.place in str(caught.value)


def spoil(subject: Blobs, reference: bytes, content: bytes) -> None:
    files, root = fsspec.core.url_to_fs(subject._place.name)
    files.pipe_file(f"{root}/{subject._path(digest_of(reference))}", content)


@pytest.mark.parametrize(
    ("content", "problem"), [(VALUE[:-1], "instead of"), (VALUE[:-1] + b"?", "another than its name")]
)
async def test_a_damaged_value_is_never_given_and_can_be_put_again(kept: Blobs, content: bytes, problem: str) -> None:
    reference = await kept.put(VALUE)
    spoil(kept, reference, content)

    with pytest.raises(BlobCorrupt, match=problem) as caught:
        await kept.get(reference)
    assert digest_of(reference).hex() in str(caught.value)
    await kept.put(VALUE)
    assert await kept.get(reference) == VALUE


async def test_a_value_of_another_size_is_written_again(kept: Blobs) -> None:
    reference = await kept.put(VALUE)
    spoil(kept, reference, VALUE[:100])

    await kept.put(VALUE)

    assert await kept.get(reference) == VALUE


async def test_deleting_what_is_not_there_does_nothing(kept: Blobs) -> None:
    assert await kept.delete(bytes(32))


async def test_what_was_put_of_late_is_known_and_spared(kept: Blobs, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.monotonic()
    monkeypatch.setattr(blobs.time, "monotonic", lambda: now)
    again = digest_of(await kept.put(b"put again"))
    old = digest_of(await kept.put(b"old"))
    now += 3600
    assert digest_of(await kept.put(b"put again")) == again
    new = digest_of(await kept.put(b"new"))
    now += 1

    assert kept.recently_put(60) == {again, new}
    assert kept.recently_put(7200) == {old, again, new}
    assert not await kept.delete(again, unless_put_within=60)
    assert await kept.delete(old, unless_put_within=60)
    assert len(listed(kept)) == 2

    now += blobs.REMEMBERED - 1800
    later = digest_of(await kept.put(b"later"))
    assert kept.recently_put(1e9) == {again, new, later}  # what nobody may ask for is not remembered


async def test_a_value_that_is_put_while_it_is_collected_is_there_afterwards(
    kept: Blobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = await kept.put(VALUE)
    loop, looked, putting = asyncio.get_running_loop(), threading.Event(), []
    size, remove = kept._place.size, kept._place.remove

    def noted_size(path: str) -> int | None:
        found = size(path)
        looked.set()
        return found

    def slow_remove(path: str) -> None:
        loop.call_soon_threadsafe(lambda: putting.append(asyncio.ensure_future(kept.put(VALUE))))
        looked.wait(0.3)  # it may not look before this is done
        remove(path)

    monkeypatch.setattr(kept._place, "size", noted_size)
    with monkeypatch.context() as patched:
        patched.setattr(kept._place, "remove", slow_remove)
        await kept.delete(digest_of(reference))
    await putting[0]

    assert await kept.get(reference) == VALUE


async def test_a_copy_is_found_by_another_engine(kept: Blobs, tmp_path: Path) -> None:
    references = [await kept.put(VALUE + bytes([n])) for n in range(3)]
    digests = [digest_of(reference) for reference in references[:2]]

    assert await kept.copy_to(tmp_path / "backup", digests) == 2
    assert await kept.copy_to(tmp_path / "backup", digests) == 2
    copy = Blobs(str(tmp_path / "backup"), "5707e")
    assert [await copy.get(reference) for reference in references[:2]] == [VALUE + b"\0", VALUE + b"\1"]
    with pytest.raises(BlobMissing):
        await copy.get(references[2])
    await copy.close()


async def test_what_is_missing_or_damaged_is_not_copied(kept: Blobs, tmp_path: Path) -> None:
    reference = await kept.put(VALUE)
    spoil(kept, reference, b"?")

    with pytest.raises(BlobCorrupt):
        await kept.copy_to(tmp_path / "backup", [digest_of(reference)])
    with pytest.raises(BlobMissing):
        await kept.copy_to(tmp_path / "backup", [bytes(32)])
    assert not (tmp_path / "backup").exists()


async def test_all_work_is_done_in_threads_of_its_own(kept: Blobs, monkeypatch: pytest.MonkeyPatch) -> None:
    names: set[str] = set()
    size = kept._place.size

    def noted(path: str) -> int | None:
        names.add(threading.current_thread().name)
        return size(path)

    monkeypatch.setattr(kept._place, "size", noted)
    await asyncio.gather(*[kept.put(b"%d" % n) for n in range(50)])

    assert len(names) <= blobs.THREADS
    assert {name.rpartition("_")[0] for name in names} == {"dcengine-blobs"}


async def test_closing_waits_for_what_is_under_way(kept: Blobs) -> None:
    putting = asyncio.ensure_future(kept.put(VALUE))
    await asyncio.sleep(0)
    await kept.close()

    assert size_of(await putting) == len(VALUE)


# ---- references ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [b"", b"B", dumps(b"B" * 20), pack_json("x" * 38, what="x"), pack([b""] * 66), b"B" * 40, b"B" * 42, b"J" * 41],
)
def test_values_are_not_taken_for_references(data: bytes) -> None:
    assert not is_reference(data)


def test_a_row_holds_a_mebibyte() -> None:
    assert public.ROW_LIMIT == 1024 * 1024


# ---- in a folder ---------------------------------------------------------------------------


@pytest.fixture
async def in_folder(tmp_path: Path) -> AsyncIterator[Blobs]:
    subject = Blobs(str(tmp_path / "new" / "blobs"), "5707e")
    yield subject
    await subject.close()


def files_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def modes(folder: Path) -> set[tuple[bool, int]]:
    """Return for files and folders which permissions there are."""
    return {(path.is_dir(), stat.S_IMODE(path.stat().st_mode)) for path in [folder, *folder.rglob("*")]}


async def test_nobody_else_may_read_it(in_folder: Blobs, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        await in_folder.put(VALUE)
    finally:
        os.umask(before)

    assert modes(tmp_path / "new") == {(True, 0o700), (False, 0o600)}


async def test_nothing_is_made_before_something_is_put(in_folder: Blobs, tmp_path: Path) -> None:
    with pytest.raises(BlobMissing):
        await in_folder.get(blobs.REFERENCE.pack(b"B", bytes(32), 1))
    await in_folder.delete(bytes(32))

    assert not os.listdir(tmp_path)


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="only Linux tells which file was synced")
async def test_content_is_synced_before_it_is_named_and_the_name_before_it_is_acknowledged(
    in_folder: Blobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    story: list[tuple[str, str]] = []
    sync, replace = os.fsync, Path.replace

    def noted_sync(descriptor: int) -> None:
        name = os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}"))
        story.append(("synced", name.partition(".")[0]))
        sync(descriptor)

    def noted_replace(self: Path, target: Path) -> Path:
        story.append(("named", target.name))
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", noted_sync)
    monkeypatch.setattr(Path, "replace", noted_replace)
    name = digest_of(await in_folder.put(VALUE)).hex()

    folders = [("synced", folder) for folder in (tmp_path.name, "new", "blobs", "5707e")]
    content = [("synced", name), ("synced", "5707e"), ("named", name), ("synced", name[:2])]
    assert story == folders + content
    await in_folder.put(VALUE)
    assert story[len(folders + content) :] == [("synced", name[:2])]  # its writer may have been killed before that


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="only Linux tells which file was synced")
async def test_folders_of_a_killed_writer_are_made_to_stay_before_they_are_used(
    in_folder: Blobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = digest_of(await in_folder.put(VALUE)).hex()
    synced: list[str] = []
    sync = os.fsync

    def noted_sync(descriptor: int) -> None:
        synced.append(os.path.relpath(os.readlink(f"/proc/self/fd/{descriptor}"), tmp_path))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", noted_sync)
    next_life = Blobs(str(tmp_path / "new" / "blobs"), "5707e")
    await next_life.put(VALUE)
    folders = [name for name in synced if kept not in name]
    assert folders == ["new", "new/blobs", "new/blobs/5707e", f"new/blobs/5707e/{kept[:2]}"]
    synced.clear()
    await next_life.put(VALUE)
    assert synced == [f"new/blobs/5707e/{kept[:2]}"]
    await next_life.close()


async def test_what_a_killed_writer_left_is_removed_a_day_later(in_folder: Blobs, tmp_path: Path) -> None:
    unfinished = tmp_path / "new/blobs/5707e/unfinished"
    unfinished.mkdir(parents=True)
    old, new = unfinished / "old", unfinished / "new"
    for file in (old, new):
        file.write_bytes(b"half")
    os.utime(old, (0, time.time() - 2 * 24 * 3600))

    await in_folder.put(VALUE)

    assert os.listdir(unfinished) == ["new"]


async def test_a_full_disk_is_told_and_leaves_nothing_half_written(
    in_folder: Blobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await in_folder.put(b"first")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(DiskFull, match=str(tmp_path)):
            await in_folder.put(VALUE)
    assert len(files_below(tmp_path)) == 1
    assert await in_folder.get(await in_folder.put(VALUE)) == VALUE


async def test_a_folder_that_may_not_be_written_is_named(
    in_folder: Blobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(path: object, *args: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(os, "open", forbidden)  # not by permissions: tests may be run by root

    with pytest.raises(BlobPlaceFailed, match=f"{tmp_path}.*Permission denied.*{tmp_path}.*setting blobs"):
        await in_folder.put(VALUE)


async def test_a_file_where_the_folder_should_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    subject = Blobs(str(tmp_path / "file"), "5707e")

    with pytest.raises(BlobPlaceFailed, match=str(tmp_path / "file")):
        await subject.put(VALUE)
    await subject.close()


async def test_a_folder_may_be_relative_or_a_file_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    relative, url = Blobs("here", "5707e"), Blobs((tmp_path / "here").as_uri(), "5707e")
    monkeypatch.chdir("/")

    assert await url.get(await relative.put(VALUE)) == VALUE
    await relative.close()
    await url.close()


WRITER = """
import asyncio, sys
from dcengine.blobs import Blobs

async def main():
    kept = Blobs(sys.argv[1], "5707e")
    for number in range(10_000):
        reference = await kept.put(b"%d" % number * 1000)
        print(reference.hex(), flush=True)

asyncio.run(main())
"""


def told_until_killed(folder: Path) -> list[bytes]:
    """Return the references that a writer has told of before it was killed."""
    with subprocess.Popen([sys.executable, "-c", WRITER, str(folder)], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        lines = [writer.stdout.readline() for _ in range(50)]
        writer.kill()
        lines += writer.stdout.readlines()
    return [bytes.fromhex(line) for line in lines if line.endswith("\n")]


async def test_what_was_acknowledged_survives_a_kill(in_folder: Blobs, tmp_path: Path) -> None:
    references = told_until_killed(tmp_path / "new" / "blobs")

    assert len(references) >= 50
    for number, reference in enumerate(references):
        assert await in_folder.get(reference) == b"%d" % number * 1000


# ---- elsewhere -----------------------------------------------------------------------------


class Troubled(MemoryFileSystem):
    """A store in trouble of a kind that the test chooses."""

    protocol = "troubled"
    error: Exception = OSError()

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return "/" + path.removeprefix("troubled://").strip("/")

    def _fail(self, *args: object, **kwargs: object) -> Any:
        raise type(self).error

    pipe_file = cat_file = makedirs = rm = _fail


class Strict(MemoryFileSystem):
    """A store that moves nothing onto what is there, as servers for SFTP may."""

    protocol = "strict"

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return "/" + path.removeprefix("strict://").strip("/")

    def mv(self, path1: str, path2: str, **kwargs: Any) -> None:
        if self.exists(path2):
            raise FileExistsError(path2)
        super().mv(path1, path2, **kwargs)


async def test_what_cannot_be_moved_onto_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(_registry, "strict", Strict)
    subject = Blobs(f"strict://{tmp_path.name}/b", "5707e")
    reference = await subject.put(VALUE)
    spoil(subject, reference, b"half")

    await subject.put(VALUE)

    assert await subject.get(reference) == VALUE
    await subject.close()


class NoCredentials(Exception):
    """What a driver may raise: no OSError."""


@pytest.fixture
async def troubled(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Blobs]:
    monkeypatch.setitem(_registry, "troubled", Troubled)
    subject = Blobs("troubled://bucket/prefix", "5707e")
    yield subject
    await subject.close()


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (PermissionError(errno.EACCES, "Access Denied"), "Access Denied"),
        (FileNotFoundError("The specified bucket does not exist"), "bucket does not exist"),
        (NoCredentials("Unable to locate credentials\nat all"), "Unable to locate credentials"),
        (NotImplementedError(), "can only be read"),
        (TimeoutError(), "TimeoutError"),
    ],
)
async def test_trouble_elsewhere_is_told_with_the_place_and_the_way_out(
    troubled: Blobs, monkeypatch: pytest.MonkeyPatch, error: Exception, told: str
) -> None:
    monkeypatch.setattr(Troubled, "error", error)

    with pytest.raises(BlobPlaceFailed) as caught:
        await troubled.put(VALUE)
    assert told in str(caught.value)
    assert "troubled://bucket/prefix" in str(caught.value)
    assert "setting blobs" in str(caught.value)
    with pytest.raises(BlobError):
        await troubled.get(blobs.REFERENCE.pack(b"B", bytes(32), 1))


@pytest.mark.parametrize("kept", ["memory", "objects"], indirect=True)
async def test_where_nothing_may_be_listed_what_is_missing_is_written(
    kept: Blobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*args: object, **kwargs: object) -> Any:
        raise PermissionError(errno.EACCES, "Forbidden")  # S3 says so of what is not there

    with monkeypatch.context() as patched:
        patched.setattr(MemoryFileSystem, "info", forbidden)
        reference = await kept.put(VALUE)

    assert await kept.get(reference) == VALUE


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("s3://bucket/prefix", "pip install s3fs"),
        ("nothing-like-that://x", "s3://bucket/prefix"),
        ("gs://", "a bucket or folder in it"),
        ("simplecache::s3://bucket", "not a chain"),
        ("sftp://me:secret@host/folder", "a sftp URL with a password"),
    ],
)
def test_a_place_that_cannot_be_is_refused_at_once(url: str, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(_registry, "gs", ObjectStore)
    monkeypatch.setitem(sys.modules, "s3fs", None)  # not installed, whatever is

    with pytest.raises(InvalidOption, match="blobs cannot be") as caught:
        Blobs(url, "5707e")
    assert told in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_folder_does_without_fsspec(tmp_path: Path) -> None:
    program = "import sys; from dcengine.blobs import Blobs; Blobs(sys.argv[1], 'x'); print('fsspec' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True)

    assert answer.stdout == "False\n"
