"""What faults have cost: a record for each in `build/faults.json`, and the table of `docs/reliability.md` made of them.

``python -m tests.faults.report`` writes the table anew. A record replaces the one of the same fault before it.
"""

from __future__ import annotations

import fcntl
import json
import platform
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import dcengine

ROOT = Path(__file__).resolve().parents[2]
RECORDS, PAGE = ROOT / "build" / "faults.json", ROOT / "docs" / "reliability.md"
BEGIN, END = "<!-- the table of faults: begin -->", "<!-- the table of faults: end -->"
HEADINGS = (
    "fault",
    "form",
    "runs",
    "acknowledged",
    "lost",
    "double",
    "stuck",
    "corrupt",
    "what else",
    "seed",
    "recorded",
)


@dataclass
class Record:
    """What became of all that was promised while one kind of fault happened, again and again."""

    fault: str  #: in a few words, which also name the record
    seed: int | str = ""
    runs: int = 0  #: how often the fault happened
    acknowledged: int = 0  #: operations that were answered as done: submissions, completions and the like
    lost: int = 0  #: of those, how many the file does not know afterwards
    double: int = 0  #: tasks that were accepted, or credited, more than once
    stuck: int = 0  #: jobs or slots that did not go on
    corrupt: int = 0  #: files that SQLite or the history checker finds wrong
    figures: dict[str, float] = field(default_factory=dict)  #: what else was measured, with its unit in the name

    @property
    def is_clean(self) -> bool:
        """Whether nothing went wrong."""
        return not (self.lost or self.double or self.stuck or self.corrupt)

    def __str__(self) -> str:
        figures = "".join(f", {name} {value:g}" for name, value in self.figures.items())
        return (
            f"{self.fault}: {self.runs:,} runs, {self.acknowledged:,} acknowledged, {self.lost} lost, "
            f"{self.double} double, {self.stuck} stuck, {self.corrupt} corrupt{figures} (seed {self.seed})"
        )


@contextmanager
def recorded(fault: str, *, seed: int | str = "", is_long: bool = False) -> Iterator[Record]:
    """Yield a record to be filled in; it is written whatever happens, and has to be clean in the end."""
    record = Record(fault, seed)
    try:
        yield record
    finally:
        print(record)
        write(record, is_long=is_long)
    assert record.is_clean, record


def write(record: Record, *, is_long: bool) -> None:
    """Put *record* in the file, beside those that other tests, perhaps at the same time, write there."""
    about = {
        "form": "long" if is_long else "short", "version": dcengine.__version__, "date": date.today().isoformat(),
        "python": platform.python_version(), "sqlite": sqlite3.sqlite_version,
    }  # fmt: skip
    RECORDS.parent.mkdir(exist_ok=True)
    with RECORDS.open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        records = json.loads(file.read() or "{}")
        records[record.fault] = {**asdict(record), **about}
        file.truncate(0)
        json.dump(dict(sorted(records.items())), file, indent=2)


def table(records: dict[str, dict[str, Any]]) -> str:
    """Return *records* as a table in Markdown."""
    rows = [HEADINGS, ("---",) * len(HEADINGS), *(_row(record) for record in records.values())]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _row(record: dict[str, Any]) -> tuple[str, ...]:
    counts = (f"{record[name]:,}" for name in ("runs", "acknowledged", "lost", "double", "stuck", "corrupt"))
    figures = "; ".join(f"{name} {value:,g}" for name, value in record["figures"].items())
    return (
        record["fault"],
        record["form"],
        *counts,
        figures,
        str(record["seed"]),
        f"{record['version']}, {record['date']}",
    )


def main() -> None:
    records = json.loads(RECORDS.read_text())
    before, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n\n{table(records)}\n\n{END}{after}")


if __name__ == "__main__":
    main()
