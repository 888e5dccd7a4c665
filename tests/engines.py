"""Engines for tests: in threads, with worker processes, and behind HTTP."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

import psutil

import dcengine
from dcengine.api import front

PATIENCE = 30.0  #: seconds after which a condition that should come true counts as failed


def eventually(condition: Callable[[], object], patience: float = PATIENCE) -> object:
    """Wait until *condition* gives something true; return it."""
    deadline = time.monotonic() + patience
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < deadline, f"{condition} did not come true within {patience:g} s"
        time.sleep(0.01)


@contextmanager
def embedded(db: Path, **options: object) -> Iterator[dcengine.Engine]:
    """An engine inside this process."""
    with dcengine.Engine(db, **{"workers": 2, **options}) as engine:  # type: ignore[arg-type]
        yield engine


@contextmanager
def served(db: Path, *arguments: str, workers: int = 2) -> Iterator[dict[str, object]]:
    """A ``dcengine serve`` process that this process is connected to; yields what it printed as JSON."""
    with serving(db, *arguments, workers=workers) as (_, told):
        dcengine.connect(str(told["url"]))
        try:
            yield told
        finally:
            dcengine.connect(None)


@contextmanager
def serving(db: Path, *arguments: str, workers: int = 2) -> Iterator[tuple[subprocess.Popen[str], dict[str, object]]]:
    """A ``dcengine serve`` process and what it printed as JSON."""
    process = start_serve(db, *arguments, workers=workers)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, f"serve ended with {process.wait()}"
        yield process, json.loads(line)
    finally:
        end(process)


@contextmanager
def joined(
    url: object, *arguments: str, more: Mapping[str, str] = MappingProxyType({})
) -> Iterator[subprocess.Popen[str]]:
    """A ``dcengine join`` process, with *more* in its environment."""
    command = [sys.executable, "-m", "dcengine", "join", str(url), *arguments]
    process = subprocess.Popen(
        command, env=environment(**more), text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        yield process
    finally:
        end(process)


def start_serve(db: Path, *arguments: str, workers: int = 2) -> subprocess.Popen[str]:
    """Start ``dcengine serve --json`` on a free port."""
    command = [sys.executable, "-m", "dcengine", "serve", "--db", str(db), "--port", "0", "--json"]
    return subprocess.Popen(
        [*command, "--workers", str(workers), *arguments], stdout=subprocess.PIPE, text=True, env=environment()
    )


def environment(**more: str) -> dict[str, str]:
    """The environment of a child process that is to import dcengine as this process does."""
    path = os.pathsep.join(entry for entry in sys.path if entry)
    return {**os.environ, "PYTHONPATH": path, **more}


def end(process: subprocess.Popen[str]) -> None:
    """End *process* politely, then by force."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if process.stdout is not None:
        process.stdout.close()


def family(pid: int) -> list[psutil.Process]:
    """All living descendants of process *pid*."""
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def gone(processes: list[psutil.Process]) -> bool:
    """Tell whether all of *processes* have ended."""
    return not any(map(_lives, processes))


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:  # it ended between the two questions
        return False


def forget_engines() -> None:
    """Make this process choose its engine anew."""
    front.forget()


def children_with(word: str) -> list[psutil.Process]:
    """Return the living children of this process that have *word* in their command line."""
    return [child for child in psutil.Process().children() if word in _command_of(child)]


def _command_of(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:  # or a zombie, of another test
        return []
