"""``%distribute on``: cells without a magic of their own go to workers, but for ``%%local`` ones and hidden ones.

Loaded with the extension, so it imports nothing heavy.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Coroutine
from functools import wraps
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

LOCAL = "%%local"
MAGIC_ALONE = re.compile(r"(?:[\w, ]+=\s*)?%\w|\?|[^#]*\?$")  #: a line that is a magic, or a question of IPython's


class Defaults:
    """What becomes of cells without a magic of their own in *shell*."""

    def __init__(self, shell: InteractiveShell) -> None:
        self.options: argparse.Namespace | None = None  #: how they are sent; None: they run here
        self.line = ""  #: what said so
        self._shell = shell

    def install(self) -> None:
        """Look at every cell before it runs."""
        # What front ends hide is known here and nowhere earlier: transformers of input see the text alone.
        run = self._shell.run_cell_async

        @wraps(run)
        def run_cell_async(
            raw_cell: str, store_history: bool = False, silent: bool = False, *args: Any, **options: Any
        ) -> Coroutine[Any, Any, Any]:
            is_plain = store_history and not silent and not options.get("preprocessing_exc_tuple")
            if self.options is not None and is_plain and not self._is_of_the_notebook(raw_cell):
                options["transformed_cell"] = sent_by_default(raw_cell)
            return run(raw_cell, store_history, silent, *args, **options)

        vars(self._shell)["run_cell_async"] = run_cell_async
        self._shell.input_transformers_cleanup.append(without_local)

    def _is_of_the_notebook(self, cell: str) -> bool:
        if stays_here(cell):
            return True
        from .belonging import belongs_here

        return belongs_here(self._shell, cell)

    def remove(self) -> None:
        """Look at cells no more."""
        vars(self._shell).pop("run_cell_async", None)
        if without_local in self._shell.input_transformers_cleanup:
            self._shell.input_transformers_cleanup.remove(without_local)

    def merged_into(self, options: argparse.Namespace) -> argparse.Namespace:
        """Return the *options* of a cell that is sent by default, with those that were set for all of them."""
        return argparse.Namespace(**{**vars(options), **(vars(self.options) if self.options else {})})

    def __str__(self) -> str:
        if self.options is None:
            return "cells run here; %distribute on EXPR sends those without a magic of their own to workers"
        how = f" with: {self.line}" if self.line else ""
        return f"cells without a magic of their own go to workers{how}\n{LOCAL} runs one here, %distribute off all"


def stays_here(cell: str) -> bool:
    """Tell whether *cell* runs here whatever the default is: it begins with a cell magic, or is nothing but magics."""
    lines = [line.strip() for line in cell.splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    return not lines or lines[0].startswith("%%") or all(map(MAGIC_ALONE.match, lines))


def sent_by_default(cell: str) -> str:
    """Return the Python that sends *cell* to a worker."""
    return f"get_ipython().run_cell_magic('distribute', '--default', {cell!r})\n"


def without_local(lines: list[str]) -> list[str]:
    """Return the *lines* of a cell without ``%%local`` above them; a transformer of IPython's."""
    if not lines or lines[0].strip() != LOCAL:
        return lines
    is_magic = lines[1:2] and lines[1].startswith("%%")  # it counts only in the first line
    return lines[1:] if is_magic else ["\n", *lines[1:]]
