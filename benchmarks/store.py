"""The store in one run: durable transitions, leases and questions in front of a backlog, imports, and the peers.

What is measured how stands in the modules `transitions`, `backlog`, `importing`, `questions` and `peers`.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from . import backlog, fairness, peers, questions, transitions
from .showing import Table, arguments, circumstances, show

TITLES = {
    "group": "the store (ours)",
    "ceiling": "bare group commit",
    "ceiling_rows": "bare, many rows a statement",
    "percall": "one statement at a time",
    "onehop": "one visit to a thread",
}
SYSTEMS = {"stage": "dcengine, jobs of a stage", "submit": "dcengine, submit", "map": "dcengine, map"}


def run(*, quick: bool) -> dict[str, Any]:
    """Measure everything; return the result."""
    result = circumstances("aiosqlite", *peers.PEERS)
    moved = transitions.run(quick=quick)
    waiting = _behind_a_backlog(quick=quick)
    done = peers.run(quick=quick)
    shared = fairness.run(quick=quick)
    lease_ms = waiting["lease_ms"]
    return {
        **result,
        **moved["ratios"],
        "lease_1e6_over_1e4": _worst_ratio(lease_ms, "1e6"),
        "lease_1e7_over_1e4": _worst_ratio(lease_ms, "1e7"),
        "import_jobs_per_s": round(waiting["import"]["jobs"] / waiting["import"]["seconds"]),
        "import_peak_mib": round(waiting["import"]["peak_mib"]),
        "counters_ms": waiting["question_ms"]["counters"],
        "page_ms": waiting["question_ms"]["any page"],
        "standing_ms": waiting["standing_ms"],
        "busy_reader_ratio": waiting["busy_reader"]["ratio"],
        "jobs_per_s": done["ours"]["stage"],
        "submits_per_s": done["ours"]["submit"],
        "map_items_per_s": done["ours"]["map"],
        "peers": done["peers"],
        "fair_share_ratio": shared["ratio"],
        "raw": {**moved, "backlog": waiting, "systems": done, "fairness": shared},
        "quick": quick,
        "notes": _notes(moved, waiting, done),
    }


def _behind_a_backlog(*, quick: bool) -> dict[str, Any]:
    """Return what leases, questions and imports take with many jobs in the file."""
    with tempfile.TemporaryDirectory(prefix="dcengine-benchmark-") as folder:
        files, imported = backlog.grow(Path(folder), quick=quick)
        return {
            "import": imported._asdict(),
            "lease_ms": backlog.lease_ms(files),
            "question_ms": questions.answer_ms(list(files.values())[-1]),
            "standing_ms": questions.standing_ms(Path(folder) / "standings.db"),
            "busy_reader": questions.busy_reader(files["1e6"], quick=quick),
        }


def _worst_ratio(lease_ms: dict[str, dict[int, float]], size: str) -> float | None:
    """Return what a lease in front of *size* tasks takes over one in front of ten thousand, the larger of the two."""
    if size not in lease_ms:
        return None
    return round(max(lease_ms[size][n] / lease_ms["1e4"][n] for n in backlog.AMOUNTS), 3)


def _notes(moved: dict[str, Any], waiting: dict[str, Any], done: dict[str, Any]) -> list[str]:
    return [
        f"synchronous=FULL on a real file; the disk takes {moved['sync_ms']:.2f} ms to make 4 KiB durable",
        f"transitions: ratios are ours over theirs, above 1 is faster; median of {moved['rounds']} round(s), by turns",
        "bare group commit: one thread, the same SQL by executemany, nothing decided or checked (ceiling_ratio_*); "
        "the same with our statements for many rows (ceiling_rows_ratio_*)",
        "one statement at a time: aiosqlite, BEGIN IMMEDIATE, the same statements, COMMIT (percall_ratio_*)",
        "one visit to a thread: sqlite3, the same transaction without a hop for each statement (onehop_ratio_*)",
        f"the import and the questions: {waiting['import']['jobs']:,} jobs, imported in another process",
        f"systems: {peers.WORKERS} workers each; {peers.CALLERS} threads enqueue job by job, except that the jobs of a "
        "stage are added with one call (jobs_per_s) and a map is one call",
        f"fair share: {fairness.FEW} jobs of {fairness.NAP:g} s, alone and beside {fairness.MANY:,} of somebody else",
        *(f"{name} was left out: {reason}" for name, reason in done["missing"].items()),
    ]


# ---- for people ----------------------------------------------------------------------------


def tables(result: dict[str, Any]) -> list[Table]:
    """Return the tables that show *result*."""
    raw = result["raw"]
    return [
        _transition_table(result),
        _backlog_table(raw["backlog"], result),
        _system_table(raw["systems"]),
        _fairness_table(raw["fairness"]),
    ]


def _transition_table(result: dict[str, Any]) -> Table:
    rates, waits = result["raw"]["transitions_per_second"], result["raw"]["p50_ms"]
    rows = [
        [
            f"{title}, {callers} caller{'s' * (callers > 1)}",
            f"{rates[f'{name}_{callers}']:,}/s",
            f"{waits[f'{name}_{callers}']:.2f} ms",
            "" if name == "group" else f"{result[f'{name}_ratio_{callers}']:.2f}x",
        ]
        for callers in transitions.CALLERS
        for name, title in TITLES.items()
        if f"{name}_{callers}" in rates
    ]
    return Table("durable transitions, one per call", ["", "per second", "p50", "ours / this"], rows)


def _backlog_table(waiting: dict[str, Any], result: dict[str, Any]) -> Table:
    leases = [
        [f"lease of {n}, {size} tasks queued", f"{ms:.2f} ms"]
        for n in backlog.AMOUNTS
        for size, ms in ((size, of[n]) for size, of in waiting["lease_ms"].items())
    ]
    asked = [[f"question: {question}", f"{ms:.2f} ms"] for question, ms in waiting["question_ms"].items()]
    reader = waiting["busy_reader"]
    rows = [
        *leases,
        ["import", f"{result['import_jobs_per_s']:,} jobs/s"],
        ["import, peak of memory", f"{result['import_peak_mib']} MiB"],
        *asked,
        [f"question: place among {questions.CONTRIBUTORS:,}", f"{waiting['standing_ms']:.2f} ms"],
        ["writer alone", f"{reader['alone']:,} transitions/s"],
        ["writer beside a busy reader", f"{reader['beside a reader']:,} transitions/s ({reader['ratio']:.2f}x)"],
    ]
    return Table("in front of a backlog", ["", "p50"], rows)


def _system_table(done: dict[str, Any]) -> Table:
    rows = [[SYSTEMS[name], f"{rate:,}/s"] for name, rate in done["ours"].items()]
    rows += [[name, f"{rate:,}/s"] for name, rate in done["peers"].items()]
    return Table("jobs that do nothing, enqueued and processed durably", ["", "jobs"], rows)


def _fairness_table(shared: dict[str, Any]) -> Table:
    rows = [["alone", f"{shared['alone']:.2f} s"], ["beside the others", f"{shared['beside']:.2f} s"]]
    title = f"{fairness.FEW} jobs of one submitter beside {fairness.MANY:,} of another"
    return Table(title, ["", "until the last has ended"], rows)


def main() -> None:
    options = arguments("The store: transitions, backlogs, imports, and the peers.")
    result = run(quick=options.quick)
    show(tables(result), result, as_json=options.json)


if __name__ == "__main__":
    main()
