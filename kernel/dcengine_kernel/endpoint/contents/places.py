"""Where the files lie: what any place can be asked for, and how it says what went wrong. All of it blocks."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, NamedTuple, Protocol

from ..refusing import Refused
from .paths import clean, is_within, parent_of

LOCAL = ("file", "local")
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
PIECE = 1 << 20  #: bytes that are read at once


class Entry(NamedTuple):
    """A file or folder, as its place knows it."""

    path: str
    is_folder: bool
    size: int | None
    created: float  #: Unix seconds
    modified: float
    is_writable: bool = True


class Place(Protocol):
    """Files and folders by their paths, ``""`` is the root; raises `Refused` for what cannot be, or must not."""

    name: str  #: for people

    def look(self, path: str) -> Entry | None:
        """Return what *path* is, None where there is nothing."""

    def entries(self, path: str) -> list[Entry]:
        """Return what lies in the folder *path*, but for what nobody may see."""

    def open(self, path: str) -> IO[bytes]:
        """Open the file *path*; raises `FileNotFoundError`."""

    def write(self, path: str, data: bytes | IO[bytes]) -> None:
        """Make the file *path*, or replace it as a whole: when that fails, the old one is as it was."""

    def copy(self, old: str, new: str) -> None:
        """Copy the file *old* over *new*."""

    def copy_folder(self, old: str, new: str) -> None:
        """Copy the folder *old*, without what nobody may see, to *new*, which is not there."""

    def make_folder(self, path: str) -> None:
        """Make the folder *path*; its parent is there."""

    def move(self, old: str, new: str) -> None:
        """Move a file or folder to *new*, which is not there."""

    def remove(self, path: str) -> None:
        """Remove the file *path* for good."""

    def discard(self, path: str) -> None:
        """Remove what a user has deleted: where there is a bin, into that."""

    def local_path(self, path: str) -> str | None:
        """Return where *path* lies on this machine, None if it does not."""


def read(place: Place, path: str) -> bytes:
    """Return the content of a file."""
    with explained(path), place.open(path) as file:
        return file.read()


def is_local(url: str) -> bool:
    """Tell whether *url* is a folder of this machine."""
    protocol, separator, _ = url.partition("://")
    return not separator or protocol in LOCAL


def folder_at(url: str) -> str:
    """Return the folder that *url* names."""
    _, separator, rest = url.partition("://")
    return os.path.realpath(os.path.expanduser(rest if separator else url))


def folder_for(files: str, path: str) -> str | None:
    """Return the folder in which a kernel for *path* starts, below the root *files*; None if there is none here.

    *path* is that of a notebook, which need not exist, or a folder's: it is the nearest folder that is there.
    """
    root = folder_at(files)
    if not is_local(files) or not os.path.isdir(root):
        return None
    try:
        place = clean(path)
    except Refused:
        return root
    while place:
        real = os.path.realpath(os.path.join(root, place))
        if os.path.isdir(real) and is_within(real, root.rstrip("/")):
            return real
        place = parent_of(place)
    return root


def refuse_missing(path: str) -> Refused:
    """Return the refusal that there is nothing at *path*."""
    return Refused(404, f"file or directory {path!r} does not exist", "Not Found")


def refuse_forbidden(path: str, why: str) -> Refused:
    """Return the refusal of what nobody may touch through here."""
    return Refused(403, f"Permission denied: {path}: {why}", "Forbidden")


@contextmanager
def explained(path: str) -> Iterator[None]:
    """Raise `Refused` for what the system says of *path*."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError):
        raise refuse_missing(path) from None
    except FileExistsError:
        raise Refused(409, f"File already exists: {path}", "Conflict") from None
    except IsADirectoryError:
        raise Refused(400, f"{path} is a directory", "bad type") from None
    except PermissionError as error:
        raise refuse_forbidden(path, error.strerror or "not allowed") from None
    except OSError as error:
        if error.errno in NO_ROOM:
            raise Refused(507, f"no room for {path}: {error.strerror}; what was there is as it was") from error
        if error.errno in (errno.ENAMETOOLONG, errno.EINVAL, errno.ELOOP):
            raise Refused(400, f"{path[:200]!r} is no path here: {error.strerror}", "bad path") from None
        raise Refused(500, f"{path}: {error.strerror or error}") from error
