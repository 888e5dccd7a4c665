"""Files wherever fsspec leads: ``s3://bucket/prefix``, ``memory://name`` and more."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timezone
from typing import IO, Any

from dcengine.errors import InvalidOption

from ..refusing import Refused
from .paths import CHECKPOINTS, FOLDER_MARK, below, is_engines_own, is_path, is_within, name_of, parent_of
from .places import PIECE, Entry, explained, refuse_forbidden, refuse_missing

# They show nothing of an object before all of it is there, and moving one means copying it.
WHOLE_AT_ONCE = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "oss", "oci", "memory"})
CREATED = ("created", "modified", "mtime", "LastModified", "last_modified", "updated")  #: what kinds of fsspec's say
MODIFIED = ("modified", "mtime", "LastModified", "last_modified", "updated", "created")


class Elsewhere:
    """The files below one URL; raises `InvalidOption` for one that fsspec does not know the way to."""

    def __init__(self, url: str) -> None:
        from fsspec import get_filesystem_class

        self._url = self.name = url.rstrip("/")
        self._protocol = url.partition("://")[0]
        try:
            get_filesystem_class(self._protocol)
        except (ImportError, ValueError) as error:
            raise InvalidOption(
                "files", repr(url), f"a folder, or a URL such as s3://bucket/prefix ({error})"
            ) from None

    def look(self, path: str) -> Entry | None:
        files, full = self._at(path)
        if not path:
            return Entry(path, True, None, 0.0, 0.0)
        with explained(path):
            files.invalidate_cache()  # others write there too
            try:
                return _entry(path, files.info(full))
            except (FileNotFoundError, NotADirectoryError):
                return None

    def entries(self, path: str) -> list[Entry]:
        files, full = self._at(path)
        with explained(path):
            files.invalidate_cache()
            try:
                found = files.ls(full, detail=True)
            except FileNotFoundError:
                if not path:
                    return []  # a root in which nothing lies yet
                raise
        named = [(str(info["name"]).rstrip("/").rpartition("/")[2], info) for info in found if _is_in(info, full)]
        return [
            _entry(below(path, name), info)
            for name, info in named
            if is_path(name) and not is_engines_own(name) and name != FOLDER_MARK
        ]

    def open(self, path: str) -> IO[bytes]:
        files, full = self._at(path)
        stream: IO[bytes] = files.open(full, "rb")
        return stream

    def write(self, path: str, data: bytes | IO[bytes]) -> None:
        files, full = self._at(path)
        with explained(path):
            self._refuse_folder(path)
            if self._protocol in WHOLE_AT_ONCE:
                _write_whole(files, full, data)
                return
            partial = f"{full.rpartition('/')[0]}/.dcengine-{secrets.token_hex(8)}.partial"
            _write_whole(files, partial, data)
            with suppress(FileNotFoundError):
                files.rm_file(full)  # not all of them move onto a file that is there
            files.mv(partial, full)

    def copy(self, old: str, new: str) -> None:
        files, source = self._at(old)
        with explained(old):
            files.cp_file(source, self._at(new)[1])

    def copy_folder(self, old: str, new: str) -> None:
        if is_within(new, old):
            raise Refused(400, f"{old} cannot be copied into itself")
        files, _ = self._at(old)
        with explained(old):
            self.make_folder(new)
            for path, is_folder in self._below(old):
                target = new + path[len(old) :]
                if is_engines_own(path):
                    continue
                if is_folder:
                    self.make_folder(target)
                else:
                    files.cp_file(self._at(path)[1], self._at(target)[1])

    def make_folder(self, path: str) -> None:
        files, full = self._at(path)
        with explained(path):
            with suppress(FileExistsError):
                files.makedirs(full, exist_ok=True)
            files.invalidate_cache()
            if not files.isdir(full):  # buckets know no folder but by what lies in it
                files.pipe_file(f"{full}/{FOLDER_MARK}", b"")

    def move(self, old: str, new: str) -> None:
        entry = self._existing(old)
        if is_within(new, old) and new != old:
            raise Refused(400, f"{old} cannot be moved into itself")
        parent = self.look(parent_of(new))
        if parent is None or not parent.is_folder:
            raise Refused(404, f"No such directory: {parent_of(new)}", "Not Found")
        if self.look(new) is not None:
            raise Refused(409, f"File already exists: {new}", "Conflict")
        if entry.is_folder:
            self._refuse_kept(old)
            self.copy_folder(old, new)
            self._remove_folder(old)
        else:
            self.copy(old, new)
            self.remove(old)

    def remove(self, path: str) -> None:
        files, full = self._at(path)
        with explained(path):
            files.rm_file(full)

    def discard(self, path: str) -> None:
        if not self._existing(path).is_folder:
            self.remove(path)
            return
        self._refuse_kept(path)
        if any(name_of(entry.path) != CHECKPOINTS for entry in self.entries(path)):
            raise Refused(400, f"Directory {path} not empty")
        self._remove_folder(path)

    def local_path(self, path: str) -> str | None:
        return None

    def _at(self, path: str) -> tuple[Any, str]:
        """Return this thread's way there, which fsspec remembers, and what *path* is called there."""
        from fsspec.core import url_to_fs

        if is_engines_own(path):
            raise refuse_forbidden(path, "this belongs to an engine")
        files, root = url_to_fs(self._url)
        root = str(root).rstrip("/")
        return files, f"{root}/{path}" if path else root

    def _existing(self, path: str) -> Entry:
        entry = self.look(path)
        if entry is None:
            raise refuse_missing(path)
        return entry

    def _refuse_folder(self, path: str) -> None:
        entry = self.look(path)
        if entry is not None and entry.is_folder:
            raise Refused(400, f"{path} is a directory", "bad type")

    def _refuse_kept(self, folder: str) -> None:
        if any(is_engines_own(path) for path, _ in self._below(folder)):
            raise refuse_forbidden(folder, "files of an engine lie in it")

    def _below(self, folder: str) -> list[tuple[str, bool]]:
        """Return the path of all that lies below *folder*, and whether it is a folder; folders come first."""
        files, full = self._at(folder)
        files.invalidate_cache()
        found: dict[str, Mapping[str, Any]] = files.find(full, withdirs=True, detail=True)
        start = full.lstrip("/")
        return sorted(
            (folder + name.strip("/")[len(start) :], info["type"] == "directory")
            for name, info in found.items()
            if name.strip("/") != start
        )

    def _remove_folder(self, folder: str) -> None:
        files, _ = self._at(folder)
        below = self._below(folder)
        for path, is_folder in below:
            if not is_folder:
                files.rm_file(self._at(path)[1])
        for path, is_folder in reversed([(folder, True), *below]):
            if is_folder:
                with suppress(OSError, NotImplementedError):  # of a bucket: it went with the last that lay in it
                    self._at(path)[0].rmdir(self._at(path)[1])


def _write_whole(files: Any, full: str, data: bytes | IO[bytes]) -> None:
    if isinstance(data, bytes):
        files.pipe_file(full, data)
        return
    # Closed by itself, it would be stored as far as it came.
    file = files.open(full, "wb", autocommit=False)
    try:
        shutil.copyfileobj(data, file, PIECE)
        file.close()
    except BaseException:
        file.discard()
        raise
    file.commit()


def _entry(path: str, info: Mapping[str, Any]) -> Entry:
    is_folder = info["type"] == "directory"
    size = None if is_folder else int(info.get("size") or 0)
    return Entry(path, is_folder, size, _moment(info, CREATED), _moment(info, MODIFIED))


def _moment(info: Mapping[str, Any], names: tuple[str, ...]) -> float:
    """Return the first moment that *info* has by one of the *names*, in Unix seconds; 0.0 if none."""
    for value in (info.get(name) for name in names):
        if isinstance(value, datetime):
            return (value if value.tzinfo else value.replace(tzinfo=timezone.utc)).timestamp()
        if isinstance(value, (int, float)):
            return float(value)
        if isinstance(value, str):
            with suppress(ValueError):
                return datetime.fromisoformat(value.replace("Z", "+00:00")).timestamp()
    return 0.0


def _is_in(info: Mapping[str, Any], folder: str) -> bool:
    """Tell whether *info* is of something in *folder*: some places list the folder itself too."""
    return str(info["name"]).strip("/") != folder.strip("/")
