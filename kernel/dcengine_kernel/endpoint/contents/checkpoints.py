"""Checkpoints: the copy of a file that a front end goes back to; one for each, as Jupyter's own servers keep it."""

from __future__ import annotations

from typing import Any

from ..refusing import Refused
from .models import moment
from .paths import checkpoint_of, parent_of
from .places import Entry, Place, refuse_missing

ID = "checkpoint"


class Checkpoints:
    """The checkpoints of a place: beside each file, in a hidden folder."""

    def __init__(self, place: Place) -> None:
        self._place = place

    def of(self, path: str) -> list[dict[str, Any]]:
        self._place.look(path)  # raises for what is not for front ends
        entry = self._place.look(checkpoint_of(path))
        return [] if entry is None else [_model(entry)]

    def create(self, path: str) -> dict[str, Any]:
        """Copy the file *path* over its last checkpoint."""
        entry = self._place.look(path)
        if entry is None or entry.is_folder:
            raise refuse_missing(path)
        checkpoint = checkpoint_of(path)
        self._make_folder(checkpoint)
        self._place.copy(path, checkpoint)
        return _model(self._existing(path, ID))

    def restore(self, path: str, name: str) -> None:
        """Copy the checkpoint over the file *path*."""
        self._place.copy(self._existing(path, name).path, path)

    def delete(self, path: str, name: str) -> None:
        self._place.remove(self._existing(path, name).path)

    def forget(self, path: str) -> None:
        """Delete the checkpoint of *path*, if there is one."""
        if self.of(path):
            self.delete(path, ID)

    def move(self, old: str, new: str) -> None:
        """Move the checkpoint of a file that was moved from *old* to *new*; an older one of that name goes."""
        self.forget(new)
        if self.of(old):
            self._make_folder(checkpoint_of(new))
            self._place.move(checkpoint_of(old), checkpoint_of(new))

    def _make_folder(self, checkpoint: str) -> None:
        if self._place.look(parent_of(checkpoint)) is None:
            try:
                self._place.make_folder(parent_of(checkpoint))
            except Refused:
                if self._place.look(parent_of(checkpoint)) is None:  # else somebody else was faster
                    raise

    def _existing(self, path: str, name: str) -> Entry:
        entry = self._place.look(checkpoint_of(path)) if name == ID else None
        if entry is None:
            raise Refused(404, f"Checkpoint does not exist: {path}@{name}", "Not Found")
        return entry


def _model(entry: Entry) -> dict[str, Any]:
    return {"id": ID, "last_modified": moment(entry.modified)}
