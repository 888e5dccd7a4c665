"""A remote cell from its first line to its last: read, packed, submitted, followed, taken home."""

from __future__ import annotations

import argparse
import warnings
from typing import TYPE_CHECKING

import dcengine
from dcengine.cautions import NoMatchWarning
from dcengine.errors import DcengineError
from dcengine.handles import JobHandle

from .cell import Cell, RunCell
from .errors import CellSyntaxError
from .following import Following
from .homecoming import Homecoming
from .options import CellOptions
from .packing import prepare
from .replay import Replay
from .tracebacks import rendered

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

_options = CellOptions()


def distribute(shell: InteractiveShell, line: str, body: str) -> None:
    """Run the cell *body* on a worker, as *line* says; raise what it raised, without frames of ours."""
    try:
        _distribute(shell, _options.read(line), body)
    except SyntaxError as error:
        lines = shell.SyntaxTB.structured_traceback(type(error), error, [])  # type: ignore[arg-type]  # its own call
        raise rendered(CellSyntaxError(str(error)), lines) from None
    except DcengineError as error:
        raise (error if hasattr(error, "_render_traceback_") else rendered(error)) from None


def _distribute(shell: InteractiveShell, options: argparse.Namespace, body: str) -> None:
    cell = prepare(shell, body, options.out)
    if options.dry_run:
        print(cell.described(options.tags))
        return
    replay = Replay(shell, cell.number)
    handle = _submit(cell.packed(), options, replay)
    following = Following(handle, replay)
    error = following.to_the_end()
    if error is not None:
        raise following.error_of(error) from None
    replay.end()
    Homecoming(shell, replay, cell.names).take(handle.result())


def _submit(cell: Cell, options: argparse.Namespace, replay: Replay) -> JobHandle:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        handle = dcengine.submit(
            RunCell(f"cell In[{cell.number}]"),
            cell,
            tags=options.tags,
            timeout=options.timeout,
            retries=options.retries,
            crash_retries=options.retries,  # who watches a cell wants to hear of it, not to wait for two more crashes
        )
    for warning in caught:
        if issubclass(warning.category, NoMatchWarning):
            replay.note(str(warning.message))
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    return handle
