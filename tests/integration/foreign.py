"""A Dask scheduler and workers that somebody else started, for tests."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from tests.integration.clusters import until

ROOT = Path(__file__).parents[2]
WITHOUT_DCENGINE = "import sys; sys.modules['dcengine'] = None; "
WITH_OLD_DCENGINE = "import dcengine; dcengine.__version__ = '0.0.1'; "
RUN = "from distributed.cli.dask_{kind} import main; main()"


class ForeignDask:
    """Dask's own programs, run as their users do."""

    def __init__(self, directory: Path, stack: AsyncExitStack) -> None:
        self._directory = directory
        self._stack = stack
        self._file = directory / "scheduler.json"
        self.address = ""
        self.scheduler: asyncio.subprocess.Process

    async def start_scheduler(self, port: int = 0) -> None:
        """Start a scheduler that knows nothing of dcengine."""
        options = ("--port", str(port), "--no-dashboard", "--dashboard-address", "127.0.0.1:0", "--host", "127.0.0.1")
        log = self._directory / "scheduler.log"
        known = log.stat().st_size if log.exists() else 0
        self.scheduler = await self._start("scheduler", WITHOUT_DCENGINE, *options)

        def listens_at() -> str:
            words = log.read_text()[known:].split() if log.exists() else []
            return next((word for word in words if word.startswith("tcp://")), "")

        await until(listens_at)
        self.address = listens_at()

    async def start_worker(
        self, name: str, *options: str, preamble: str = "", nanny: bool = False, **environment: str
    ) -> asyncio.subprocess.Process:
        """Start a worker called *name*; it may not have joined yet."""
        nannied = "--nanny" if nanny else "--no-nanny"
        return await self._start(
            "worker", preamble, self.address, "--name", name, nannied, *options, log=name, environment=environment
        )

    async def _start(
        self, kind: str, preamble: str, *options: str, log: str = "", environment: dict[str, str] | None = None
    ) -> asyncio.subprocess.Process:
        with (self._directory / f"{log or kind}.log").open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", preamble + RUN.format(kind=kind), *options),
                cwd=self._directory,
                env={**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})},
                stdout=output,
                stderr=output,
            )
        self._stack.push_async_callback(_end, process)
        return process


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.kill()
    await process.wait()


@asynccontextmanager
async def foreign_dask(directory: Path) -> AsyncIterator[ForeignDask]:
    async with AsyncExitStack() as stack:
        dask = ForeignDask(directory, stack)
        await dask.start_scheduler()
        yield dask
