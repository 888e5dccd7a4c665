"""Files as front ends are told of them: Jupyter's contents models."""

from __future__ import annotations

import mimetypes
from base64 import b64decode, encodebytes
from datetime import datetime, timezone
from hashlib import sha256
from typing import Any, NamedTuple

from ..refusing import Refused
from .notebooks import Trust, from_bytes
from .paths import is_listed, name_of
from .places import Entry, Place, read, refuse_missing

CONTENT_LIMIT = 512 << 20  #: bytes of a file that a model may hold; `/files` has no limit
KINDS = ("directory", "notebook", "file")


class Wanted(NamedTuple):
    """What a model is to hold."""

    kind: str | None = None  #: one of `KINDS`; None: what the file is
    format: str | None = None  #: text or base64; None: what the file can be
    has_content: bool = True
    has_hash: bool = False


WHOLE, BARE = Wanted(), Wanted(has_content=False)


def model_of(place: Place, entry: Entry, wanted: Wanted, trust: Trust) -> dict[str, Any]:
    """Return the model of *entry* as it is *wanted*; raises `Refused` if it is not of that kind."""
    path, kind = entry.path, wanted.kind
    if entry.is_folder:
        if kind not in (None, "directory"):
            raise Refused(400, f"{path} is a directory, not a {kind}", "bad type")
        return _folder_model(place, entry, wanted, trust)
    if kind == "directory":
        raise Refused(400, f"{path} is not a directory", "bad type")
    is_notebook = kind == "notebook" or (kind is None and path.endswith(".ipynb"))
    model = _base(entry, "notebook" if is_notebook else "file")
    if not is_notebook:
        model["mimetype"] = mimetypes.guess_type(path)[0]
    if wanted.has_content or wanted.has_hash:
        data = _small(place, entry)
        if wanted.has_content:
            model |= (
                _notebook(data, path, trust) if is_notebook else _text(data, path, model["mimetype"], wanted.format)
            )
        if wanted.has_hash:
            model |= {"hash": sha256(data).hexdigest(), "hash_algorithm": "sha256"}
    return model


def _folder_model(place: Place, entry: Entry, wanted: Wanted, trust: Trust) -> dict[str, Any]:
    model = _base(entry, "directory")
    if wanted.has_content:
        shown = [each for each in place.entries(entry.path) if is_listed(name_of(each.path))]
        model["content"] = [model_of(place, each, BARE, trust) for each in shown]
        model["format"] = "json"
    return model


def upload_model(path: str, size: int) -> dict[str, Any]:
    """Return the model of a file of which *size* bytes have come so far."""
    now = datetime.now(timezone.utc).timestamp()
    return _base(Entry(path, False, size, now, now), "file") | {"mimetype": mimetypes.guess_type(path)[0]}


def moment(seconds: float) -> str:
    """Return Unix *seconds* as Jupyter writes them; a file's own may be beyond what a calendar has."""
    try:
        found = datetime.fromtimestamp(seconds, timezone.utc)
    except (ValueError, OverflowError, OSError):
        found = datetime.fromtimestamp(0, timezone.utc)
    return found.isoformat().replace("+00:00", "Z")


def content_of(model: dict[str, Any], path: str) -> bytes:
    """Return the bytes of a file that a front end wants to save; raises `Refused`."""
    content, form = model.get("content"), model.get("format")
    if form not in ("text", "base64"):
        raise Refused(400, "Must specify format of file contents as 'text' or 'base64'")
    if not isinstance(content, str):
        raise Refused(400, f"{path}: the content of a file is a text, not {type(content).__name__}")
    try:
        if form == "text":
            return content.encode()
        return b64decode(b"".join(content.encode("ascii").split()), validate=True)
    except ValueError as error:  # of base64, of ASCII, or of UTF-8: half a character
        raise Refused(400, f"Encoding error saving {path}: {error}") from None


def _base(entry: Entry, kind: str) -> dict[str, Any]:
    return {
        "name": name_of(entry.path),
        "path": entry.path,
        "last_modified": moment(entry.modified),
        "created": moment(entry.created),
        "content": None,
        "format": None,
        "mimetype": None,
        "size": None if entry.is_folder else entry.size,
        "writable": entry.is_writable,
        "hash": None,
        "hash_algorithm": None,
        "type": kind,
    }


def _small(place: Place, entry: Entry) -> bytes:
    """Return the content of a file that is small enough for a model."""
    if (entry.size or 0) > CONTENT_LIMIT:
        limit = f"{CONTENT_LIMIT >> 20} MiB"
        raise Refused(413, f"{entry.path} is larger than {limit}: read it at /files/{entry.path}, or in a kernel")
    if place.look(entry.path) is None:
        raise refuse_missing(entry.path)
    return read(place, entry.path)


def _notebook(data: bytes, path: str, trust: Trust) -> dict[str, Any]:
    notebook, message = from_bytes(data, path)
    trust.mark(notebook)
    found = {"content": notebook, "format": "json"}
    return found if message is None else found | {"message": message}


def _text(data: bytes, path: str, mimetype: str | None, form: str | None) -> dict[str, Any]:
    if form in (None, "text"):
        try:
            return {"content": data.decode(), "format": "text", "mimetype": mimetype or "text/plain"}
        except UnicodeDecodeError:
            if form == "text":
                raise Refused(400, f"{path} is not UTF-8 encoded", "bad format") from None
    content = encodebytes(data).decode("ascii")
    return {"content": content, "format": "base64", "mimetype": mimetype or "application/octet-stream"}
