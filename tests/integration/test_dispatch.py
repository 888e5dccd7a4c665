"""How work gets from the store to the slots."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dcengine.cluster import ClusterSettings
from dcengine.codec import pack_call, pack_function
from dcengine.engine import Engine
from dcengine.verbs import Submission


async def test_a_job_is_leased_in_the_commit_that_stores_it_if_a_slot_is_free(tmp_path: Path) -> None:
    engine = Engine(tmp_path / "work.db", ClusterSettings(workers=1, processes=False))
    await engine.start()
    commits: list[set[str]] = []
    original = engine._store._writer._commit

    def noting(operations: list[Any]) -> list[Any]:
        commits.append({type(operation).__name__ for operation in operations})
        return original(operations)

    try:
        engine._store._writer._commit = noting  # type: ignore[method-assign]
        for _ in range(10):  # the first has to make its need known
            status = await engine.submit(Submission(function=pack_function(len), input=pack_call(("abc",), {})))
            result = await engine.result(status.id, wait=30)
            assert result is not None
            assert result.state == "succeeded"
    finally:
        await engine.close()

    assert {"AddJob", "Lease"} in commits
