"""A remote cell from its first line to its last: read, packed, submitted, followed, taken home."""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import dcengine
from dcengine.batches import BatchHandle
from dcengine.cautions import NoMatchWarning
from dcengine.errors import DcengineError, NotPicklable
from dcengine.handles import JobHandle
from dcengine.tags import with_devices

from . import background, stage
from .cell import Cell, RunCell
from .defaults import Defaults
from .each import Counted, SentItems, items_of
from .errors import CellSyntaxError
from .item import RunItem, label_of
from .options import CellOptions
from .packing import HEAD, Prepared, prepare, prepare_for_items
from .replay import LateReplay, Replay
from .sent import Sent, SentCell
from .tracebacks import rendered

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

_options = CellOptions()


def distribute(shell: InteractiveShell, line: str, body: str, defaults: Defaults) -> Any:
    """Run the cell *body* on a worker, as *line* says; return what the notebook has still to show of it.

    Raises what the cell raised, without frames of ours.
    """
    with without_our_frames(shell):
        options = _options.read(line, lambda text: str(shell.var_expand(text)))
        if options.default:
            options = defaults.merged_into(options)
        return _distribute(shell, options, body)


@contextmanager
def without_our_frames(shell: InteractiveShell) -> Iterator[None]:
    """Have errors of ours, and syntax errors of the user's, shown as what they are."""
    try:
        yield
    except SyntaxError as error:
        lines = shell.SyntaxTB.structured_traceback(type(error), error, [])  # type: ignore[arg-type]  # its own call
        raise rendered(CellSyntaxError(str(error)), lines) from None
    except DcengineError as error:
        raise (error if hasattr(error, "_render_traceback_") else rendered(error)) from None


def _distribute(shell: InteractiveShell, options: argparse.Namespace, body: str) -> Any:
    cell = _prepared(shell, options, body)
    if options.dry_run:
        print(_described(shell, options, cell))
        return None
    if options.stage is not None:
        return stage.declare(options, cell, None if options.each is None else items_of(shell, options.each))
    replay = (LateReplay if options.background else Replay)(shell, cell.number)
    sent = _sent(shell, options, cell, replay)
    sent.show()
    return background.begin(sent, replay, cell.number) if options.background else sent.finish()


def _prepared(shell: InteractiveShell, options: argparse.Namespace, body: str) -> Prepared:
    if options.each is not None:
        return prepare_for_items(shell, body, options.out, options.each.target)
    if options.stage is not None:
        return prepare_for_items(shell, body, None, stage.INPUT)
    head = "" if options.default else HEAD
    return prepare(shell, body, options.out, head, in_session=options.session is not None)


def _sent(shell: InteractiveShell, options: argparse.Namespace, cell: Prepared, replay: Replay) -> Sent:
    if options.each is None:
        packed, stay = cell.packed_for(options.session, options.keep_above)
        return SentCell(shell, _submit(packed, options, replay, stay.session), replay, cell.names, stay)
    batch = _map(cell, options, Counted(items_of(shell, options.each)), replay)
    return SentItems(shell, batch, replay)


def _submit(cell: Cell, options: argparse.Namespace, replay: Replay, session: str) -> JobHandle:
    with _said_in(replay):
        return dcengine.submit(
            RunCell(f"cell In[{cell.number}]"),
            cell,
            tags=options.tags,
            devices=options.devices,
            timeout=options.timeout,
            retries=options.retries,
            session=session or None,
            crash_retries=options.retries,  # who watches a cell wants to hear of it, not to wait for two more crashes
        )


def _map(cell: Prepared, options: argparse.Namespace, items: Counted, replay: Replay) -> BatchHandle:
    title = f"cell In[{cell.number}], each {options.each}"[:100]
    try:
        with _said_in(replay):
            return dcengine.map(
                RunItem(title, cell.packed()),
                items,
                tags=options.tags,
                devices=options.devices,
                timeout=options.timeout,
                retries=options.retries,
            )
    except NotPicklable as error:
        raise items.refusal(error) from None


@contextmanager
def _said_in(replay: Replay) -> Iterator[None]:
    """Say in *replay* what a submitter is warned of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for warning in caught:
        if issubclass(warning.category, NoMatchWarning):
            replay.note(str(warning.message))
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)


# ---- what would happen ---------------------------------------------------------------------


def _described(shell: InteractiveShell, options: argparse.Namespace, cell: Prepared) -> str:
    remarks: list[str] = []
    if options.stage is not None:
        remarks.append(f"would declare stage {options.stage[1]} of project {options.stage[0]}")
    if options.each is not None:
        remarks.append(_items_described(items_of(shell, options.each), options))
    if options.session is not None:
        remarks.append(f"would run in session {options.session}")
    return cell.described(with_devices(options.tags, options.devices), *remarks)


def _items_described(items: Any, options: argparse.Namespace) -> str:
    if not isinstance(items, Sequence):
        return f"would run for each item of {options.each.expression}, a {type(items).__name__}; it was not read"
    first = f", the first of them {label_of(items[0])}" if len(items) else ""
    return f"would run for {len(items):,} items{first}"
