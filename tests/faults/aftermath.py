"""What is looked at after a fault: the file is whole, its history is true, and an engine on it goes on working."""

from __future__ import annotations

import time
from pathlib import Path

import dcengine
from dcengine.store.checking import check_history
from tests.engines import embedded
from tests.faults.test_kills import check_file


def check_survivor(db: Path, *, patience: float = 60.0) -> None:
    """Check the file *db*, have an engine work on it, and check it again; no engine may run on it before."""
    check_whole(db)
    with embedded(db, workers=1, processes=False):
        assert dcengine.submit(sum, [1, 2]).result(patience) == 3
        assert dcengine.map(abs, range(-20, 0)).results(patience) == list(range(20, 0, -1))
        cancelled = dcengine.submit(time.sleep, 0)
        cancelled.cancel()
    check_whole(db)


def check_whole(db: Path) -> None:
    """Check that SQLite, the sums over all tables and the history checker find nothing wrong with *db*."""
    check_file(db)
    assert check_history(db) == []
