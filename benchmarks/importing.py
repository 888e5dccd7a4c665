"""Jobs on their way into a project of a file, block by block, in a process of its own: how fast, in how much memory.

    python -m benchmarks.importing FILE JOBS

prints one JSON object. From the engine on the blocks take the way of all imports: `AddProjectJobs`, through the writer.
"""

from __future__ import annotations

import asyncio
import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from dcengine.codec import pack_json
from dcengine.store import Store, now
from dcengine.store.adding import AddProjectJobs
from dcengine.store.projects import DeclareProject
from dcengine.verbs import ImportStep, ItemsSubmission, ProjectSpec, StageSpec

PROJECT, SUBMITTER = "laion", "somebody"
BLOCK = 4096  #: items that one submission brings
AHEAD = 2  #: submissions on their way at once: one is written while the next is made
PATIENCE = 900.0


class Imported(NamedTuple):
    """What an import has taken."""

    jobs: int
    seconds: float
    peak_mib: float  #: of memory, the interpreter included

    @property
    def jobs_per_second(self) -> float:
        return self.jobs / self.seconds


def bring(db: Path, jobs: int) -> Imported:
    """Import *jobs* into the new file *db*, in another process."""
    command = [sys.executable, "-m", "benchmarks.importing", str(db), str(jobs)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=PATIENCE)
    return Imported(**json.loads(done.stdout.splitlines()[-1]))


async def fill(db: Path, jobs: int) -> float:
    """Import *jobs* into *db*; return the seconds from the first item to the last one's commit."""
    store = Store(db)
    await store.start()
    try:
        stage = StageSpec(name="a", title="CPU", kind="lease")
        await store.apply(DeclareProject(ProjectSpec(name=PROJECT, stages=[stage]), now()))
        started = time.perf_counter()
        on_their_way: list[asyncio.Future[object]] = []
        for operation in _operations(jobs):
            if len(on_their_way) == AHEAD:
                await on_their_way.pop(0)
            on_their_way.append(store.submit(operation, sum(map(len, operation.values))))
        await asyncio.gather(*on_their_way)
        return time.perf_counter() - started
    finally:
        await store.close()


def _operations(jobs: int) -> Iterator[AddProjectJobs]:
    for offset in range(0, jobs, BLOCK):
        count = min(BLOCK, jobs - offset)
        names = (f"s3://bucket/{number:08d}.tar" for number in range(offset, offset + count))
        values = [pack_json(name, what="an item") for name in names]
        step = ImportStep(name="list", offset=offset, before=_digest(offset), after=_digest(offset + count))
        submission = ItemsSubmission(project=PROJECT, blocks=[], count=count, imported=step, submitter=SUBMITTER)
        yield AddProjectJobs(submission, values, now())


def _digest(items: int) -> bytes:
    """Return what stands for the digest of the first *items*, which the importing side makes."""
    return items.to_bytes(32, "big") if items else b""


def main() -> None:
    db, jobs = Path(sys.argv[1]), int(sys.argv[2])
    seconds = asyncio.run(fill(db, jobs))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps(Imported(jobs, seconds, peak)._asdict()))


if __name__ == "__main__":
    main()
