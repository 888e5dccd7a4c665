"""Real workers in great numbers: each a `dcengine.Worker` in a process of its own, with its heart in another one.

They are forked from a process that has everything loaded and has no thread yet: ``python -m tests.faults.crowd``, which
reads what each of them is to do from its standard input. What they do they tell in a file.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import psutil

from tests.engines import environment


@dataclass(frozen=True)
class Post:
    """What one worker is to do."""

    url: str
    project: str
    stage: str
    name: str
    nickname: str
    journal: str  #: the file in which it tells what it does
    shortest: float  #: seconds that a task takes
    longest: float
    prefetch: int = 0


class Told(NamedTuple):
    """Something that a worker tells: it has begun a task, or what was said of it."""

    what: str  #: began, accepted or refused
    stage: str
    number: int
    attempt: int
    output: str
    name: str
    nickname: str


class Crowd:
    """The process that workers are forked from, behind a *command* perhaps, with *more* in its environment.

    What they write to stderr is added to the file *said*.
    """

    def __init__(self, said: Path, command: Sequence[str] = (), more: Mapping[str, str] = MappingProxyType({})) -> None:
        with said.open("a") as errors:
            self._process = subprocess.Popen(
                [*command, sys.executable, "-m", "tests.faults.crowd"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment(**more),
            )  # fmt: skip

    def begin(self, post: Post) -> psutil.Process:
        """Have one more worker."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asdict(post)) + "\n")
        self._process.stdin.flush()
        return psutil.Process(int(self._process.stdout.readline()))

    def end(self) -> None:
        """End all of them by force."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()


def heart_of(worker: psutil.Process) -> psutil.Process | None:
    """Return the process that keeps the leases of *worker*."""
    with suppress(psutil.NoSuchProcess):
        for child in worker.children():
            return child
    return None


def told_in(journal: Path) -> Iterator[Told]:
    """Go through what workers have told."""
    for line in journal.read_text().splitlines():
        yield Told(*json.loads(line))


# ---- in the process that they are forked from -----------------------------------------------


def work(post: Post) -> None:
    """Do tasks as *post* says for as long as the engine lives; whatever ends a loop, another one begins."""
    import dcengine

    dice = random.Random(post.name)
    while True:
        try:
            for task in dcengine.Worker(
                post.url, project=post.project, stage=post.stage, name=post.name, nickname=post.nickname,
                prefetch=post.prefetch,
            ):  # fmt: skip
                output = f"{post.name} {task.number} {task.attempt}"
                about = (post.stage, task.number, task.attempt, output, post.name, post.nickname)
                _tell(post, "began", *about)
                time.sleep(dice.uniform(post.shortest, post.longest))
                task.complete(output)
                _tell(post, "accepted" if task.accepted() else "refused", *about)
        except dcengine.EngineUnreachable:
            time.sleep(0.1)


def _tell(post: Post, *told: object) -> None:
    with open(post.journal, "ab", buffering=0) as file:  # one short write at the end of a file is not torn
        file.write(json.dumps(told).encode() + b"\n")


def main() -> None:
    """Fork a worker for each line, and end them all with the last one."""
    import dcengine.loops
    import dcengine.worker  # noqa: F401 - so that no worker has to

    children = set[int]()
    while line := sys.stdin.readline():
        with suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG)[0]) != 0:
                children.discard(ended)
        post = Post(**json.loads(line))
        pid = os.fork()
        if pid == 0:
            os.dup2(os.open(os.devnull, os.O_RDWR), 0)
            os.dup2(0, 1)
            work(post)
            os._exit(0)
        children.add(pid)
        print(pid, flush=True)
    for child in children:
        os.kill(child, signal.SIGKILL)


if __name__ == "__main__":
    main()
