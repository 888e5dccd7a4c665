"""What happens to work between the queue and the slot, at moments that are rare by themselves."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import dcengine
from dcengine.runner.units import Unit
from tests.engines import embedded, eventually


@pytest.mark.parametrize("way", ["submit", "map"])
def test_work_cancelled_on_its_way_to_the_slot_is_not_run_to_its_end(tmp_path: Path, way: str) -> None:
    with embedded(tmp_path / "work.db", workers=1) as engine:
        core, reached, gate = engine._engine, threading.Event(), threading.Event()
        prepare = core._unit_of

        async def hesitate(work: Any) -> Unit:
            reached.set()
            await asyncio.to_thread(gate.wait)
            return await prepare(work)

        core._unit_of = hesitate  # type: ignore[method-assign]
        handle = dcengine.submit(time.sleep, 600) if way == "submit" else dcengine.map(time.sleep, [600])[0]
        assert reached.wait(30)

        handle.cancel()
        gate.set()

        with pytest.raises(dcengine.JobCancelled):
            handle.result(20)


def test_a_short_call_stuck_behind_a_long_one_is_taken_to_a_free_slot(tmp_path: Path) -> None:
    def quick_or_held(path: str) -> str:
        """Run at once for no path; else until it exists, although such calls have always been quick."""
        deadline = time.monotonic() + 60
        while path and not Path(path).exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        return "ended"

    gate = str(tmp_path / "go")
    with embedded(tmp_path / "work.db", workers=2):
        for _ in range(20):
            dcengine.submit(quick_or_held, "").result(30)
        held = dcengine.submit(quick_or_held, gate)
        late = [dcengine.submit(quick_or_held, "") for _ in range(8)]

        assert [handle.result(30) for handle in late] == ["ended"] * 8
        assert not held.done()
        Path(gate).touch()
        assert held.result(30) == "ended"


def test_a_worker_that_does_not_answer_does_not_hold_up_a_cancel(tmp_path: Path) -> None:
    import os
    import signal

    with embedded(tmp_path / "work.db", workers=2) as engine:
        handle = dcengine.submit(time.sleep, 600)
        worker = eventually(lambda: handle.status().worker)
        pid = engine._engine._cluster.pids[str(worker)]
        os.kill(pid, signal.SIGSTOP)
        try:
            handle.cancel()
            assert dcengine.submit(sum, [1, 2]).result(30) == 3
        finally:
            os.kill(pid, signal.SIGCONT)

        with pytest.raises(dcengine.JobCancelled):
            handle.result(30)
