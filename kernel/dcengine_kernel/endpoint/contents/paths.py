"""Paths as front ends say them: relative to the root, with slashes. What cannot be one is refused here. No I/O."""

from __future__ import annotations

import posixpath
import re
from fnmatch import fnmatch
from hashlib import sha256

from ..refusing import Refused

SEGMENT_BYTES, PATH_BYTES = 255, 4000  #: that file systems take
UNLISTED = ("__pycache__", "*.pyc", "*.pyo", "*~")  #: what nobody wants to see; it can be asked for all the same
CHECKPOINTS = ".ipynb_checkpoints"  #: the folder in which a folder's checkpoints lie
FOLDER_MARK = ".folder"  #: in folders of places that keep no empty ones
ENGINES_OWN = re.compile(r"dcengine\.(db|toml)([-.~].*)?", re.IGNORECASE | re.DOTALL)  #: names no front end may touch


def clean(path: str) -> str:
    """Return *path* without slashes around it; raises `Refused` for what is no path below the root."""
    path = path.strip("/")
    for segment in path.split("/") if path else ():
        problem = _problem_of(segment)
        if problem:
            raise Refused(400, f"{path[:200]!a} is no path here: {problem}", "bad path")
    if len(path.encode()) > PATH_BYTES:
        raise Refused(400, f"{path[:200]!a} is no path here: it is longer than {PATH_BYTES} bytes", "bad path")
    return path


def _problem_of(segment: str) -> str | None:
    if segment in ("", ".", ".."):
        return "'.', '..' and empty names lead nowhere"
    if not segment.isprintable() and any(ord(character) < 32 for character in segment):
        return "it has control characters"
    if "\\" in segment:
        return "it has backslashes; folders are parted by '/'"
    try:
        size = len(segment.encode())
    except UnicodeEncodeError:
        return "it is not Unicode"
    return f"a name has at most {SEGMENT_BYTES} bytes" if size > SEGMENT_BYTES else None


def is_path(path: str) -> bool:
    """Tell whether *path* is one that `clean` lets through."""
    try:
        return clean(path) == path
    except Refused:
        return False


def is_hidden(path: str) -> bool:
    """Tell whether *path* is hidden, or below something that is."""
    return any(segment.startswith(".") for segment in path.split("/"))


def is_listed(name: str) -> bool:
    """Tell whether a folder shows the file *name*."""
    return not name.startswith(".") and not any(fnmatch(name, pattern) for pattern in UNLISTED)


def is_engines_own(path: str) -> bool:
    """Tell by its names whether *path* is, or lies in, what an engine keeps; file systems may not mind the case."""
    return any(ENGINES_OWN.fullmatch(segment) for segment in path.split("/"))


def parent_of(path: str) -> str:
    return posixpath.dirname(path)


def name_of(path: str) -> str:
    return posixpath.basename(path)


def below(folder: str, name: str) -> str:
    """Return the path of *name* in *folder*."""
    return f"{folder}/{name}" if folder else name


def is_within(path: str, folder: str) -> bool:
    """Tell whether *path* is *folder* or lies in it."""
    return path == folder or not folder or path.startswith(f"{folder}/")


def parts_of(name: str) -> tuple[str, str]:
    """Return *name* in two parts, between which a number goes: before all of its endings, or before ``.ipynb``."""
    base, dot, ending = name.rpartition(".")
    if ending != "ipynb":
        base, dot, ending = name.partition(".")
    return base, dot + ending


def checkpoint_of(path: str) -> str:
    """Return where the checkpoint of the file *path* lies."""
    base, ending = posixpath.splitext(name_of(path))
    name = f"{base}-checkpoint{ending}"
    if len(name.encode()) > SEGMENT_BYTES:
        name = sha256(name.encode()).hexdigest()
    return below(below(parent_of(path), CHECKPOINTS), name)
