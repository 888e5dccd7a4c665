"""Everything at once for a while: what is to be flat is flat, and nothing that was asked for fails."""

from __future__ import annotations

from pathlib import Path

from benchmarks.soak import FLAT, Limits, complaints, figures, soak
from benchmarks.soak_load import KINDS
from benchmarks.soak_samples import Sample, Use, growth, slope
from benchmarks.soak_samples import lasting as lasting_in
from dcengine.store.checking import check_history

from .conftest import IS_LONG, in_form
from .report import recorded

MINUTES = in_form(short=0.5, long=30.0)
SLOW = {"kernels", "joins", "old_clients"}  #: that take their time even on a quiet machine: not in the short form
# Half a minute is all warming up, and says little of hours: there the limits are for what grows with every request.
SHORT = Limits(
    uss_mb_per_hour=40_000.0, uss_mb=150.0, handles=150, threads=30, processes=12, log_mb=80.0, rate=0.3, p99=20.0
)


def test_what_is_to_be_flat_is_flat_under_everything_at_once(tmp_path: Path) -> None:
    kinds = in_form(short=[kind for kind in KINDS if kind.name not in SLOW], long=list(KINDS))
    with recorded("soak: mixed load", is_long=IS_LONG) as record:
        run = soak(MINUTES, tmp_path, kinds)
        found = figures(run)
        print(*(failed.traceback for failed in run.failures))
        record.runs, record.acknowledged, record.stuck = 1, len(run.done), len(run.failures)
        record.figures = {
            key: found[key]
            for key in ("uss_growth_mb_per_hour", "handles_growth", "threads_growth", "log_mb_max",
                        "last_over_first_minute", "last_over_first_p99")
            if found[key] is not None
        } | {"minutes": MINUTES}  # fmt: skip
        record.corrupt = int(bool(check_history(tmp_path / "soak.db")))

    assert complaints(found, in_form(short=SHORT, long=FLAT)) == []
    assert run.kinds == {kind.name for kind in kinds}


# ---- that it can fail ----------------------------------------------------------------------


def test_a_leak_is_found_whatever_comes_and_goes_beside_it() -> None:
    leaking = [(second, 100.0 + second / 60 + 50 * (second % 7 == 0)) for second in range(0, 3600, 2)]
    flat = [(second, 100.0 + 50 * (second % 7 == 0)) for second, _ in leaking]

    assert 55 < slope(leaking) * 3600 < 65
    assert abs(slope(flat)) * 3600 < 1
    assert 30 < growth(leaking).by < 50


def test_only_processes_that_stay_are_compared() -> None:
    def sample(at: float, *pids: int) -> Sample:
        return Sample(at, {pid: Use("engine" if pid == 1 else "kernel", 1.0, 1.0, 1, 1) for pid in pids}, {}, {})

    assert lasting_in([sample(0, 1, 2), sample(1, 1, 3), sample(2, 1, 3)]) == {1: "engine"}
