"""Notebooks as they are stored, and as they travel: read, checked and written by nbformat; and who trusts them."""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

from ..refusing import Refused

logger = logging.getLogger(__name__)


class Checked(NamedTuple):
    """A notebook, and what is wrong with it, if anything is."""

    notebook: Any  #: nbformat's
    message: str | None


def from_bytes(data: bytes, path: str) -> Checked:
    """Return the notebook stored as *data*, as one of today's format; raises `Refused` if it is none."""
    import nbformat

    told: dict[str, Any] = {}
    try:
        text = data.decode()
        notebook = nbformat.reads(text, as_version=4, capture_validation_error=told)
    except Exception as error:  # nbformat raises whatever comes up in what it reads
        raise Refused(400, f"Unreadable Notebook: {path} {type(error).__name__}: {str(error)[:300]}") from None
    return Checked(notebook, _message(told))


def from_model(content: object, path: str) -> Checked:
    """Return the notebook that a front end wants to save; raises `Refused` if it is none."""
    import nbformat

    if not isinstance(content, dict):
        raise Refused(400, f"{path}: the content of a notebook is a JSON object, not {type(content).__name__}")
    if not isinstance(content.get("nbformat"), int):
        raise Refused(400, f"{path}: this is no notebook: it has no nbformat")
    return Checked(nbformat.from_dict(content), None)


def to_bytes(checked: Checked, path: str) -> tuple[bytes, str | None]:
    """Return *checked* as it is stored, and what is wrong with it, if anything is; raises `Refused` if all is."""
    import nbformat

    told: dict[str, Any] = {}
    try:
        text = nbformat.writes(checked.notebook, version=nbformat.NO_CONVERT, capture_validation_error=told)
        return (text if text.endswith("\n") else text + "\n").encode(), _message(told)
    except Exception as error:  # as above
        raise Refused(400, f"{path} is no notebook: {type(error).__name__}: {str(error)[:300]}") from None


def empty() -> Any:
    """Return a new notebook without cells."""
    from nbformat.v4 import new_notebook

    return new_notebook()


def _message(told: dict[str, Any]) -> str | None:
    error = told.get("ValidationError")
    if error is None:
        return None
    instance = json.dumps(getattr(error, "instance", None), indent=1, default=lambda _: "<UNKNOWN>")
    return f"Notebook validation failed: {error}:\n{instance}"


class Trust:
    """Which notebooks this user has run or saved: their HTML and scripts are shown at once when they are opened.

    It is Jupyter's own memory of that, shared with other servers; where that cannot be written nothing is trusted.
    """

    def __init__(self) -> None:
        self._notaries = threading.local()  # each reads an SQLite file, by a connection that stays with its thread

    def mark(self, notebook: Any) -> None:
        """Say in each cell of *notebook* whether it is trusted."""
        self._ask(lambda notary: notary.mark_cells(notebook, notary.check_signature(notebook)))

    def sign_if_trusted(self, notebook: Any) -> None:
        """Remember *notebook* if each of its cells says that it is trusted; they say it no more."""
        self._ask(lambda notary: notary.sign(notebook) if notary.check_cells(notebook) else None)

    def sign(self, notebook: Any) -> None:
        """Remember *notebook*."""
        self._ask(lambda notary: notary.sign(notebook))

    def _ask(self, question: Callable[[Any], object]) -> None:
        from jupyter_core.paths import jupyter_data_dir
        from nbformat.sign import NotebookNotary

        try:
            if not hasattr(self._notaries, "mine"):
                os.makedirs(jupyter_data_dir(), mode=0o700, exist_ok=True)
                self._notaries.mine = NotebookNotary(data_dir=jupyter_data_dir())
            question(self._notaries.mine)
        except (AttributeError, LookupError, TypeError):
            pass  # the notebook is not what it should be: nobody trusts it
        except (sqlite3.Error, OSError, ValueError) as error:
            logger.warning("whether notebooks are trusted cannot be remembered: %s", error)
