"""What front ends do with files, as Jupyter's own servers do it: look, save, make, copy, move, delete. It blocks."""

from __future__ import annotations

import re
import threading
from itertools import count
from typing import Any

from ..refusing import Refused
from . import notebooks
from .checkpoints import Checkpoints
from .models import BARE, KINDS, WHOLE, Wanted, content_of, model_of, upload_model
from .paths import below, clean, is_hidden, name_of, parent_of, parts_of
from .places import Entry, Place, refuse_missing
from .uploads import Uploads

UNTITLED = {"directory": "Untitled Folder", "notebook": "Untitled", "file": "untitled"}
COPIED = re.compile(r"-Copy\d*\.")  #: what a copy's name has, and the copy of a copy has once
COPY_LIMIT = 500 << 20  #: bytes of a folder that may be copied


class Files:
    """The files of one place."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.checkpoints = Checkpoints(place)
        self._uploads = Uploads(place, place.local_path(""))
        self._trust = notebooks.Trust()
        self._names = threading.Lock()  # between finding a name that is free and using it

    def get(self, path: str, wanted: Wanted = WHOLE) -> dict[str, Any]:
        """Return the model of *path*."""
        path = clean(path)
        if is_hidden(path):
            raise refuse_missing(path)
        return model_of(self.place, self._existing(path), wanted, self._trust)

    def put(self, path: str, model: dict[str, Any] | None) -> tuple[dict[str, Any], bool]:
        """Save what *model* holds at *path*; return its model as it is now, and whether it is new."""
        path = clean(path)
        if not model:
            return self.new_untitled(path, {}), True
        if model.get("copy_from"):
            raise Refused(400, "Cannot copy with PUT, only POST")
        _refuse_hidden(path, "create")
        entry = self.place.look(path)
        if entry is not None and not entry.is_folder:
            return self._save(path, model), False
        is_first = model.get("chunk") in (None, 1)  # later pieces of an upload make nothing new
        return self._save(path, _completed(model, path)), is_first

    def post(self, path: str, model: dict[str, Any] | None) -> dict[str, Any]:
        """Make something in the folder *path* and choose its name: a copy, or something new and empty."""
        path, model = clean(path), model or {}
        entry = self.place.look(path)
        if entry is not None and not entry.is_folder:
            raise Refused(400, "Cannot POST to files, use PUT instead.")
        if model.get("copy_from"):
            return self.copy(_text_in(model, "copy_from"), path)
        return self.new_untitled(path, model)

    def new_untitled(self, folder: str, model: dict[str, Any]) -> dict[str, Any]:
        """Make something new and empty in *folder*, of a kind that *model* names."""
        _refuse_hidden(folder, "create")
        self._refuse_no_folder(folder)
        ending = _text_in(model, "ext")
        kind = _kind(model) or ("notebook" if ending == ".ipynb" else "file")
        name = UNTITLED[kind] + {"notebook": ".ipynb", "directory": ""}.get(kind, ending)
        _refuse_hidden(clean(below(folder, name)), "create")
        with self._names:
            path = clean(below(folder, self._free_name(name, folder, " " if kind == "directory" else "")))
            return self._save(path, _completed({"type": kind}, path))

    def copy(self, source: str, target: str) -> dict[str, Any]:
        """Copy *source* into the folder *target*, under a name that is free, or to the path *target*."""
        source = clean(source)
        _refuse_hidden(source, "copy")
        _refuse_hidden(target, "copy")
        entry, into = self._existing(source), self.place.look(target)
        with self._names:
            if into is not None:
                target = below(target, self._free_name(COPIED.sub(".", name_of(source)), target, "-Copy"))
            else:
                self._refuse_no_folder(parent_of(target))
            if entry.is_folder:
                self._refuse_large(source)
                self.place.copy_folder(source, target)
            else:
                self.place.copy(source, target)
        return self.get(target, BARE)

    def patch(self, path: str, model: dict[str, Any] | None) -> dict[str, Any]:
        """Move *path* to where *model* says it is."""
        if model is None:
            raise Refused(400, "JSON body missing")
        path, new = clean(path), clean(_text_in(model, "path") or path)
        _refuse_hidden(path, "rename")
        _refuse_hidden(new, "rename")
        if path == new:
            return self.get(path, BARE)
        if not path or not new:
            raise Refused(400, "the root cannot be renamed, nor replaced")
        entry = self._existing(path)
        with self._names:
            self.place.move(path, new)
        if not entry.is_folder:
            self.checkpoints.move(path, new)
        return self.get(new, BARE)

    def delete(self, path: str) -> None:
        """Delete *path*."""
        path = clean(path)
        if not path:
            raise Refused(400, "Can't delete root")
        _refuse_hidden(path, "delete")
        is_folder = self._existing(path).is_folder
        self.place.discard(path)
        if not is_folder:
            self.checkpoints.forget(path)

    def trust(self, path: str) -> None:
        """Take the notebook *path* as one that was run or saved here."""
        model = self.get(path, Wanted("notebook"))
        self._trust.sign(model["content"])

    # ---- saving ----------------------------------------------------------------------------

    def _save(self, path: str, model: dict[str, Any]) -> dict[str, Any]:
        kind = _kind(model)
        if kind is None:
            raise Refused(400, "No file type provided")
        if kind != "directory" and "content" not in model:
            raise Refused(400, "No file content provided")
        if not path and kind != "directory":
            raise Refused(400, "the root is a directory", "bad type")
        self._refuse_no_folder(parent_of(path))
        if model.get("chunk") is not None:
            return self._save_piece(path, kind, model)
        message = None
        if kind == "directory":
            self._save_folder(path)
        elif kind == "notebook":
            message = self._save_notebook(path, model["content"])
        else:
            self.place.write(path, content_of(model, path))
        saved = self.get(path, BARE)
        return saved if message is None else saved | {"message": message}

    def _save_folder(self, path: str) -> None:
        entry = self.place.look(path)
        if entry is None:
            self.place.make_folder(path)
        elif not entry.is_folder:
            raise Refused(400, f"Not a directory: {path}")

    def _save_notebook(self, path: str, content: object) -> str | None:
        """Write a notebook, and a first checkpoint of it; return what is wrong with it, if anything is."""
        checked = notebooks.from_model(content, path)
        self._trust.sign_if_trusted(checked.notebook)
        data, message = notebooks.to_bytes(checked, path)
        self.place.write(path, data)
        if not self.checkpoints.of(path):
            self.checkpoints.create(path)
        return message

    def _save_piece(self, path: str, kind: str, model: dict[str, Any]) -> dict[str, Any]:
        piece = model["chunk"]
        if not isinstance(piece, int) or isinstance(piece, bool) or piece == 0 or piece < -1:
            raise Refused(400, f"chunk is {str(piece)[:50]!a}, not 1, 2, 3 ... and -1 for the last", "bad chunk")
        if kind != "file":
            raise Refused(400, f'File type "{kind}" is not supported for large file transfer')
        size = self._uploads.take(path, piece, content_of(model, path))
        return self.get(path, BARE) if piece == -1 else upload_model(path, size)

    # ---- names -----------------------------------------------------------------------------

    def _existing(self, path: str) -> Entry:
        entry = self.place.look(path)
        if entry is None:
            raise refuse_missing(path)
        return entry

    def _refuse_no_folder(self, path: str) -> None:
        entry = self.place.look(path)
        if entry is None or not entry.is_folder:
            raise Refused(404, f"No such directory: {path}", "Not Found")

    def _free_name(self, name: str, folder: str, insert: str) -> str:
        """Return *name*, or with *insert* and the first number that makes it free in *folder*."""
        base, ending = parts_of(name)
        taken = {name_of(entry.path) for entry in self.place.entries(folder)}
        tries = (f"{base}{insert}{number}{ending}" if number else name for number in count())
        return next(each for each in tries if each not in taken and self.place.look(below(folder, each)) is None)

    def _refuse_large(self, folder: str) -> None:
        """Raise `Refused` if so much lies in *folder* that a front end would not wait for its copy."""
        size, left = 0, [folder]
        while left:
            for entry in self.place.entries(left.pop()):
                size += entry.size or 0
                if entry.is_folder:
                    left.append(entry.path)
            if size > COPY_LIMIT:
                raise Refused(400, f"Can't copy folders larger than {COPY_LIMIT >> 20}MB: {folder}")


def _completed(model: dict[str, Any], path: str) -> dict[str, Any]:
    """Return *model* with what a new file of that name has, where it says nothing of it."""
    kind = _kind(model) or ("notebook" if path.endswith(".ipynb") else "file")
    model = {**model, "type": kind}
    if "content" in model or kind == "directory":
        return model
    if kind == "notebook":
        return model | {"content": notebooks.empty(), "format": "json"}
    return model | {"content": "", "format": "text"}


def _kind(model: dict[str, Any]) -> str | None:
    """Return the kind that *model* names; one that nobody knows is a file."""
    kind = model.get("type")
    return None if not kind else kind if kind in KINDS else "file"


def _text_in(model: dict[str, Any], name: str) -> str:
    """Return the text *name* of *model*, empty where there is none."""
    value = model.get(name) or ""
    if not isinstance(value, str):
        raise Refused(400, f"{name} is a text, not {type(value).__name__}")
    return value


def _refuse_hidden(path: str, verb: str) -> None:
    if is_hidden(path):
        raise Refused(400, f"Cannot {verb} file or directory {path!r}: hidden ones are not for front ends")
