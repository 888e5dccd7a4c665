"""Where files lie that are written once: a folder, or wherever fsspec leads."""

from __future__ import annotations

import errno
import itertools
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from ..errors import BlobError, BlobPlaceFailed, DiskFull, InvalidOption

UNFINISHED = "unfinished"  #: the folder for what is being written
ABANDONED = 24 * 3600.0  #: seconds after which what lies there is nobody's any more
LOCAL = ("file", "local")
# They show nothing of an object before all of it is there, and moving one means copying it.
OBJECT_STORES = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "oss", "oci"})


def place_at(url: str) -> Place:
    """Return the place called *url*: a folder, or any URL that fsspec knows. Raises `InvalidOption`."""
    protocol, separator, rest = url.partition("://")
    if "::" in url:
        raise InvalidOption("blobs", repr(url), "a folder or one URL, not a chain of them")
    if not separator or protocol in LOCAL:
        return Folder(rest if separator else url)
    user, is_named, _ = rest.partition("/")[0].rpartition("@")
    if is_named and ":" in user:
        expected = "a URL without it: fsspec reads such things from variables (FSSPEC_SFTP_PASSWORD) and its own files"
        raise InvalidOption("blobs", f"a {protocol} URL with a password, which logs would show", expected)
    return Elsewhere(url)


class Place(Protocol):
    """Files by name. A file appears with all of its content or not at all, and stays."""

    name: str  #: for people

    def size(self, path: str) -> int | None:
        """Return the size of the file, None where there is none."""

    def read(self, path: str) -> bytes:
        """Return its content; raises `FileNotFoundError`."""

    def write(self, path: str, data: bytes) -> None:
        """Make the file, durably; one that was there is replaced."""

    def keep(self, path: str) -> None:
        """Make durable that the file is there, in case whoever wrote it did not come to that."""

    def part(self, path: str, at: int, size: int) -> bytes:
        """Return *size* bytes of the file, from byte *at* on, fewer at its end; raises `FileNotFoundError`."""

    def whole_path(self, path: str) -> str | None:
        """Return where the file lies on this machine, None if it does not."""

    def remove(self, path: str) -> None:
        """Remove the file, if it is there."""


class Folder:
    """A folder of this machine, or one that it has mounted."""

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder).expanduser().absolute()
        self.name = str(self._folder)
        self._numbers = itertools.count(1)
        self._lasting: set[Path] = set()  #: folders that are there whatever happens

    def size(self, path: str) -> int | None:
        try:
            return (self._folder / path).stat().st_size
        except FileNotFoundError:
            return None

    def read(self, path: str) -> bytes:
        return (self._folder / path).read_bytes()

    def write(self, path: str, data: bytes) -> None:
        file = self._folder / path
        unfinished = file.parent.parent / UNFINISHED / f"{file.name}.{os.getpid()}.{next(self._numbers)}"
        self._make(unfinished.parent)
        try:
            with open(os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            self._make(file.parent)
            unfinished.replace(file)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise
        _sync(file.parent)

    def keep(self, path: str) -> None:
        folder = (self._folder / path).parent
        self._make(folder)
        _sync(folder)

    def new_file(self, folder: str) -> Path:
        """Return a name for a file that is to be written and taken in; what becomes of it otherwise, `tidy` sees to."""
        unfinished = self._folder / folder / UNFINISHED
        self._make(unfinished)
        return unfinished / f"value.{os.getpid()}.{next(self._numbers)}"

    def take_in(self, file: Path, path: str) -> None:
        """Make *file*, which is durable itself, the file *path*."""
        target = self._folder / path
        self._make(target.parent)
        file.replace(target)
        _sync(target.parent)

    def part(self, path: str, at: int, size: int) -> bytes:
        with open(self._folder / path, "rb") as stream:
            stream.seek(at)
            return stream.read(size)

    def whole_path(self, path: str) -> str | None:
        return str(self._folder / path)

    def remove(self, path: str) -> None:
        (self._folder / path).unlink(missing_ok=True)

    def tidy(self, folder: str) -> None:
        """Remove what writers that were killed have left below *folder*."""
        unfinished = self._folder / folder / UNFINISHED
        for file in unfinished.iterdir() if unfinished.is_dir() else ():
            if file.stat().st_mtime < time.time() - ABANDONED:
                file.unlink(missing_ok=True)

    def _make(self, folder: Path) -> None:
        """Have *folder* there, durably; what is missing is made for this user alone.

        One that is there need not stay: who made it was killed before that was synced, or is a thread about to do so.
        """
        is_there = folder.is_dir()
        if is_there and (folder in self._lasting or not folder.is_relative_to(self._folder)):
            return
        self._make(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)
        try:
            _sync(folder.parent)
        except PermissionError:
            if not is_there:
                raise
        self._lasting.add(folder)


class Elsewhere:
    """A place that fsspec knows the way to."""

    def __init__(self, url: str) -> None:
        self.name = url.rstrip("/")
        self._url = url
        self._protocol = url.partition("://")[0]
        self._numbers = itertools.count(1)
        kind = _kind_of_files(url, self._protocol)
        if not str(kind._strip_protocol(url)).strip("/") and self._protocol != "memory":
            raise InvalidOption("blobs", repr(url), f"a bucket or folder in it, as in {self._protocol}://name/prefix")

    def size(self, path: str) -> int | None:
        files, root = self._files()
        try:
            return int(files.info(f"{root}/{path}")["size"])
        except (FileNotFoundError, PermissionError):
            return None  # where a bucket may not be listed, what is missing is forbidden

    def read(self, path: str) -> bytes:
        files, root = self._files()
        return bytes(files.cat_file(f"{root}/{path}"))

    def write(self, path: str, data: bytes) -> None:
        files, root = self._files()
        file = f"{root}/{path}"
        if self._protocol in OBJECT_STORES:
            files.pipe_file(file, data)
            return
        folder, _, name = file.rpartition("/")
        unfinished = f"{folder.rpartition('/')[0]}/{UNFINISHED}/{name}.{os.getpid()}.{next(self._numbers)}"
        files.makedirs(unfinished.rpartition("/")[0], exist_ok=True)
        files.makedirs(folder, exist_ok=True)
        files.pipe_file(unfinished, data)
        self.remove(path)  # not all of them move onto a file that is there
        files.mv(unfinished, file)

    def keep(self, path: str) -> None:
        """Do nothing: what is there is safe, as far as we can tell."""

    def part(self, path: str, at: int, size: int) -> bytes:
        files, root = self._files()
        return bytes(files.cat_file(f"{root}/{path}", start=at, end=at + size))

    def whole_path(self, path: str) -> str | None:
        return None

    def remove(self, path: str) -> None:
        files, root = self._files()
        try:
            files.rm(f"{root}/{path}")
        except FileNotFoundError:
            pass

    def _files(self) -> tuple[Any, str]:
        """Return this thread's way there, which fsspec remembers: not every kind can be shared."""
        from fsspec.core import url_to_fs

        files, root = url_to_fs(self._url)
        return files, str(root).rstrip("/")


def _kind_of_files(url: str, protocol: str) -> Any:
    """Return the class that fsspec has for *protocol*; raises `InvalidOption`."""
    from fsspec import get_filesystem_class  # only here: whoever keeps values in a folder need not wait for it

    try:
        return get_filesystem_class(protocol)
    except ImportError as error:
        missing = error.__cause__ if isinstance(error.__cause__, ImportError) else error
        package = missing.name or "that it needs"
        way_out = f"it installed beside dcengine (pip install {package}), or a folder"
        raise InvalidOption("blobs", f"{url!r} without the package {package}", way_out) from error
    except ValueError:
        raise InvalidOption("blobs", repr(url), "a folder, or a URL such as s3://bucket/prefix") from None


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # which some network file systems say: they cannot
            raise
    finally:
        os.close(descriptor)


@contextmanager
def explained(place: str) -> Iterator[None]:
    """Turn what goes wrong at *place* into an error of ours: each kind of place has errors of its own."""
    try:
        yield
    except BlobError:
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(place) from error
        raise BlobPlaceFailed(place, _reason(error)) from error
    except NotImplementedError as error:
        raise BlobPlaceFailed(place, "places of this kind can only be read") from error
    except Exception as error:  # drivers raise what they please
        raise BlobPlaceFailed(place, _reason(error)) from error


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror if error.filename is None else f"{error.strerror} ({error.filename})"
    return (str(error).strip() or type(error).__name__).splitlines()[0]
