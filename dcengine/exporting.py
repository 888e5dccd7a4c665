"""Exports: what came of a project's jobs, as lines of JSON or CSV, page by page.

Values that a project's own functions returned are unpickled here, as `dcengine jobs result` does it; what outside
workers gave is JSON, and nothing else of theirs is ever read.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple, TextIO

from . import codec
from .errors import DcengineError, InvalidOption
from .handles import Link
from .replacing import replacing
from .verbs import ProjectStatus, StageOutput

Format = Literal["jsonl", "csv"]

_quote = json.JSONEncoder(ensure_ascii=False).encode


class Cell(NamedTuple):
    """What a job left, as text."""

    kind: Literal["value", "repr", "error"]
    text: str  #: JSON for a value

    @property
    def as_json(self) -> str:
        return self.text if self.kind == "value" else _quote(self.text)


class Export:
    """What the jobs of one project left at one stage, or how they failed."""

    def __init__(self, link: Link, project: str, *, stage: str | None = None, failed: bool = False) -> None:
        """Choose a stage, by default the last one, or for the failed ones every stage.

        Raises `NotFound` for an unknown project or stage.
        """
        self.rows = 0
        self.unwritable = 0  #: values without a form in JSON
        self._link, self._project, self._failed = link, project, failed
        status: ProjectStatus = link.call("project", project)
        self.stage = stage if stage is not None or failed else status.stages[-1].name
        kinds = {each.name: each.kind for each in status.stages}
        # A stage that the project does not have any more may have been a lease stage.
        self._is_ours = kinds.get(self.stage or "") == "function"
        if self.stage is not None and self.stage not in kinds:
            self._page(0, limit=1)  # one of former times has outputs too; any other is unknown
        self.total = None if failed else sum(
            each.counts.get("succeeded", 0) for each in status.stages if each.name == self.stage
        ) or None  # fmt: skip

    def write(self, file: TextIO, format: Format) -> Iterator[None]:
        """Write everything to *file*, a step after each page."""
        write = self._writer(file, format)
        after = 0
        while page := self._page(after):
            for output in page:
                if (output.state == "succeeded") != self._failed:
                    write(output, self._cell(output))
                    self.rows += 1
            after = page[-1].number
            yield

    def _page(self, after: int, limit: int = 1000) -> list[StageOutput]:
        if self.stage is None:
            page: list[StageOutput] = self._link.call("failed_jobs", self._project, after=after, limit=limit)
        else:
            page = self._link.call("outputs", self._project, self.stage, after=after, limit=limit)
        return page

    def _writer(self, file: TextIO, format: Format) -> Callable[[StageOutput, Cell], object]:
        """Return what writes one line of *format*."""
        columns = ("stage", "error") if self._failed else ("value",)
        if format == "jsonl":
            return lambda output, cell: file.write(self._json_line(output, cell))
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["number", "job", "state", *columns])
        return lambda output, cell: rows.writerow(
            [output.number, output.job, output.state, *([output.stage] if self._failed else []), _plain(cell)]
        )

    def _json_line(self, output: StageOutput, cell: Cell) -> str:
        stage = f', "stage": {_quote(output.stage)}' if self._failed else ""
        return (
            f'{{"number": {output.number}, "job": {output.job}, "state": {_quote(output.state)}'
            f'{stage}, "{cell.kind}": {cell.as_json}}}\n'
        )

    def _cell(self, output: StageOutput) -> Cell:
        """Return what *output* holds: a value as JSON, or else its `repr`; or the error in one line."""
        if output.state != "succeeded":
            return Cell("error", codec.unpack_failure(output.data).sentence if output.data else "")
        if not output.data:
            return self._unwritten("it was kept for a set time, which is over")
        if codec.is_json(output.data):
            return Cell("value", _on_one_line(output.data))
        if not self._is_ours:
            return self._unwritten(f"{len(output.data):,} bytes that are no JSON")
        return self._unpickled(output.data)

    def _unpickled(self, data: bytes) -> Cell:
        """Return the value in *data*; whatever is wrong with it is the business of its own code."""
        try:
            value: Any = codec.loads(data)
        except Exception as error:
            return self._unwritten(f"cannot be read here: {type(error).__name__}: {codec.message_of(error)}")
        try:
            return Cell("value", _on_one_line(codec.pack_json(value, what="a value")))
        except DcengineError:
            pass
        try:
            return self._unwritten(repr(value))
        except Exception as error:
            return self._unwritten(f"<{type(value).__name__}: its repr fails: {codec.message_of(error)}>")

    def _unwritten(self, text: str) -> Cell:
        self.unwritable += 1
        return Cell("repr", text)


def _on_one_line(data: bytes) -> str:
    """Return the text of a value that is JSON; outside of texts a line feed is as good as a blank."""
    return codec.json_text(data).decode().replace("\r", " ").replace("\n", " ")


def _plain(cell: Cell) -> str:
    """Return *cell* for a column: a text as it is, any other value as JSON."""
    if cell.kind != "value" or cell.text[:1] != '"':
        return cell.text
    text: str = json.loads(cell.text)
    return text


@contextmanager
def into(target: str) -> Iterator[TextIO]:
    """Open *target* for what is exported: a file that is there when all of it is, or "-" for standard output.

    Raises `InvalidOption` for a file that cannot be written.
    """
    path = Path(target).resolve()
    if target == "-":
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")  # type: ignore[union-attr]
        yield sys.stdout
        sys.stdout.flush()
    elif path.exists() and not path.is_file():  # a device, a pipe: nothing to be put in its place
        with _writable(path, target) as file:
            yield file
    else:
        with replacing(path, lambda partial: _writable(partial, target, mode="x")) as file:
            yield file


def _writable(path: Path, target: str, *, mode: Literal["w", "x"] = "w") -> TextIO:
    try:
        # In JSON a lone surrogate is written as backslashreplace writes it.
        return open(path, mode, encoding="utf-8", errors="backslashreplace", newline="")
    except OSError as error:
        raise InvalidOption("-o", repr(target), f"a file that can be written: {error.strerror or error}") from None
