"""The engines that every contract is held against: in threads, with worker processes, and behind HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engines import embedded, served


@pytest.fixture(scope="module", params=["threads", "processes", "daemon"])
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    db: Path = tmp_path_factory.mktemp(request.param) / "work.db"
    if request.param == "daemon":
        with served(db, "--worker-tags", "cpu;gpu=2,site=lab"):
            yield request.param
    else:
        with embedded(db, worker_tags=["cpu", "gpu=2,site=lab"], processes=request.param == "processes"):
            yield request.param


@pytest.fixture
def interruptible(engine: str) -> str:
    if engine == "threads":
        pytest.skip("a thread cannot be interrupted")
    return engine
