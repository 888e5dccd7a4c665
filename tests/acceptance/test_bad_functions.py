"""Functions that do what functions should not: each is told clearly, and hurts nobody but its own job."""

from __future__ import annotations

import ctypes
import itertools
import multiprocessing
import os
import resource
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import dcengine
from tests.engines import embedded, eventually


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """An engine with one worker, which all must share."""
    with embedded(tmp_path_factory.mktemp("bad") / "work.db", workers=1, grace=0.3):
        yield
    LOG.close()


@pytest.fixture(autouse=True)
def others(worker: None) -> Iterator[None]:
    """Jobs of others on that worker, before, waiting meanwhile, and after."""
    assert dcengine.submit(divmod, 17, 5).result(60) == (3, 2)
    yield
    assert dcengine.submit(divmod, 18, 5).result(60) == (3, 3)
    assert dcengine.map(abs, range(-20, 0)).results(60) == list(range(20, 0, -1))


# ---- what cannot travel --------------------------------------------------------------------


class Model:
    def __init__(self) -> None:
        self.lock = threading.Lock()

    def fit(self) -> None:
        self.lock.acquire()


LOCK, LOG = threading.Lock(), open(os.devnull, "w")  # noqa: SIM115 - to be open is what it is for
NUMBERS = (n for n in range(3))


def with_a_global_file() -> None:
    LOG.write("!")


def with_a_function_inside() -> Any:
    def inner() -> Any:
        return LOCK

    return inner()


def with_another_function() -> Any:
    return with_a_function_inside()


def with_a_default(lock: Any = LOCK) -> None:
    pass


def with_a_closure() -> Callable[[], Any]:
    settings = {"cache": [1, LOCK]}
    return lambda: settings


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (
            with_a_closure(),
            r"\"settings\['cache'\]\[1\]\", used inside with_a_closure.<locals>.<lambda>, \(of type lock\)",
        ),
        (with_a_global_file, r"'LOG', used inside with_a_global_file, \(of type TextIOWrapper\)"),
        (with_a_function_inside, r"'LOCK', used inside with_a_function_inside, \(of type lock\)"),
        (with_another_function, r"'LOCK', used inside with_a_function_inside, \(of type lock\)"),
        (with_a_default, r"'lock', used inside with_a_default, \(of type lock\)"),
        (
            lambda: list(NUMBERS),
            r"'NUMBERS', used inside <lambda>, \(of type generator\).* Make a list of what it yields",
        ),
        (Model().fit, r"'self.lock', used inside Model.fit, \(of type lock\)"),
    ],
    ids=["closure", "file", "function inside", "another function", "default", "generator", "method"],
)
def test_a_function_that_cannot_travel_names_the_value_inside_it(function: Callable[..., Any], said: str) -> None:
    with pytest.raises(dcengine.NotPicklable, match=said):
        dcengine.submit(function)


def test_an_argument_that_cannot_travel_is_named_down_to_the_part() -> None:
    with pytest.raises(dcengine.NotPicklable, match=r"argument 1 .of type generator.* Make a list of what it yields"):
        dcengine.submit(sum, (n for n in range(3)))
    with pytest.raises(dcengine.NotPicklable, match=r"\['model'\].lock in argument 1 \(of type lock\)"):
        dcengine.submit(print, {"model": Model()})
    with pytest.raises(dcengine.NotPicklable, match=r"argument 1 .of type generator"):
        dcengine.map(sum, [(n for n in range(3))])


def give_a_generator() -> Any:
    return (n for n in range(3))


def give_a_lock() -> Any:
    return {"locks": [threading.Lock()]}


def test_a_result_that_cannot_travel_is_named_down_to_the_part() -> None:
    with pytest.raises(
        dcengine.NotPicklable, match=r"the result of .*give_a_generator .of type generator.* Make a list"
    ):
        dcengine.submit(give_a_generator).result(60)
    with pytest.raises(
        dcengine.NotPicklable, match=r"\['locks'\]\[0\] in the result of .*give_a_lock \(of type lock\)"
    ):
        dcengine.submit(give_a_lock).result(60)


# ---- what it raises ------------------------------------------------------------------------


class Picky(Exception):
    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


class Base(BaseException):
    pass


def raise_picky() -> None:
    raise Picky(1, 2)


def raise_mute() -> None:
    raise Mute


def raise_at_length() -> None:
    raise ValueError("so it goes " * 10_000_000)


def raise_with_luggage() -> None:
    error = ValueError("heavy")
    error.luggage = bytes(50_000_000)  # type: ignore[attr-defined]
    raise error


def raise_from_the_deep() -> None:
    def descend(n: int) -> None:
        if not n:
            raise ValueError("x" * 1000)
        try:
            descend(n - 1)
        except ValueError as error:
            raise ValueError("x" * 100_000) from error

    sys.setrecursionlimit(10_000)
    descend(1000)


def recurse() -> Any:
    return recurse()


def take_all_memory() -> int:
    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, resource.getrlimit(resource.RLIMIT_AS)[1]))
    return len(bytearray(8 << 30))


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit, Base])
def test_no_exception_is_too_base_to_be_the_jobs_own(kind: type[BaseException]) -> None:
    def leave() -> None:
        raise kind("enough")

    with pytest.raises(kind, match="enough"):
        dcengine.submit(leave).result(60)


@pytest.mark.parametrize("function", [recurse, take_all_memory])
def test_running_out_of_stack_or_memory_is_an_error_like_others(function: Callable[[], Any]) -> None:
    expected = RecursionError if function is recurse else MemoryError
    with pytest.raises(expected) as caught:
        dcengine.submit(function).result(60)

    assert function.__name__ in str(caught.value.__cause__)


def test_a_limit_that_a_call_has_set_is_not_that_of_the_next() -> None:
    with pytest.raises(MemoryError):
        dcengine.submit(take_all_memory).result(60)

    assert dcengine.submit(resource.getrlimit, resource.RLIMIT_AS).result(60) == resource.getrlimit(resource.RLIMIT_AS)


def test_an_exception_that_cannot_be_rebuilt_keeps_its_words_and_traceback() -> None:
    with pytest.raises(dcengine.RemoteError, match="Picky: 1 and 2") as caught:
        dcengine.submit(raise_picky).result(60)

    assert "raise Picky(1, 2)" in str(caught.value.__cause__)


def test_an_exception_that_cannot_say_what_it_is_is_told_all_the_same() -> None:
    handle = dcengine.submit(raise_mute)

    with pytest.raises(Mute) as caught:
        handle.result(60)
    assert "raise Mute" in str(caught.value.__cause__)
    assert "Mute" in str(handle.status().reason)


@pytest.mark.parametrize("function", [raise_at_length, raise_with_luggage, raise_from_the_deep])
def test_a_hundred_megabytes_of_error_are_cut_down(function: Callable[[], None]) -> None:
    with pytest.raises((ValueError, dcengine.RemoteError)) as caught:
        dcengine.submit(function).result(60)

    assert 0 < len(str(caught.value)) < 200_000
    assert "Traceback (most recent call last)" in str(caught.value.__cause__)
    assert len(str(caught.value.__cause__)) < 200_000


# ---- what ends its process -----------------------------------------------------------------


def leave_at_once() -> None:
    os._exit(3)


def be_killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def read_nowhere() -> None:
    ctypes.string_at(0)


def recurse_in_c() -> str:
    class Endless:
        def __repr__(self) -> str:
            return repr(self)

    sys.setrecursionlimit(10**8)
    return repr(Endless())


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (leave_at_once, "ended with exit code 3"),
        (be_killed, r"signal 9 \(SIGKILL\), often the system's out-of-memory killer"),
        (read_nowhere, r"signal 11 \(SIGSEGV\)"),
        (recurse_in_c, r"signal 11 \(SIGSEGV\)"),
        (os.abort, r"signal 6 \(SIGABRT\)"),
    ],
)
def test_what_ends_the_process_of_a_call_is_named(function: Callable[[], Any], said: str) -> None:
    with pytest.raises(dcengine.TaskCrashed, match=said):
        dcengine.submit(function, crash_retries=0).result(60)


def test_neighbours_of_a_crash_are_not_run_again(tmp_path: Path) -> None:
    ran = tmp_path / "ran"

    def run(n: int) -> int:
        descriptor = os.open(ran, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(descriptor, f"{n}\n".encode())
        os.close(descriptor)
        if n % 100 == 50:
            ctypes.string_at(0)
        return n

    dcengine.map(abs, range(2000)).results(60)  # chunks are large by now
    batch = dcengine.map(run, range(500))
    crashed = [50, 150, 250, 350, 450]

    assert batch.wait(100).failed == len(crashed)
    assert sorted(batch.failures) == crashed
    counted = Counter(map(int, ran.read_text().split()))
    assert {n for n, times in counted.items() if times > 1} <= set(crashed)
    assert set(counted) == set(range(500))


# ---- what disturbs its process -------------------------------------------------------------


def close_the_standard_streams() -> str:
    for descriptor in (0, 1, 2):
        os.close(descriptor)
    return "done"


def go_elsewhere() -> str:
    os.chdir(tempfile.mkdtemp())
    os.rmdir(os.getcwd())
    os.umask(0o777)
    return "done"


def leave_threads() -> str:
    threading.Thread(target=time.sleep, args=(3600,)).start()
    return "done"


def fork_and_return_twice() -> str:
    if process := os.fork():
        os.waitpid(process, 0)
    return "done"


def fork_a_pool() -> str:
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map(abs, [-1, -2]) == [1, 2]
    return "done"


def print_a_gigabyte() -> str:
    for _ in range(1024):
        print("x" * (1 << 20))
    return "done"


@pytest.mark.parametrize(
    "function",
    [
        close_the_standard_streams,
        go_elsewhere,
        leave_threads,
        fork_and_return_twice,
        fork_a_pool,
        print_a_gigabyte,
    ],
)
def test_what_a_call_does_to_its_process_is_forgotten(function: Callable[[], str]) -> None:
    here = dcengine.submit(os.getcwd).result(60)

    assert dcengine.submit(function).result(100) == "done"

    assert dcengine.submit(os.getcwd).result(60) == here
    handle = dcengine.submit(print, "heard")
    handle.result(60)
    assert str(handle.output) == "heard\n"


# ---- what does not stop --------------------------------------------------------------------


def ignore_signals(sign: str) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    Path(sign).touch()
    while True:
        time.sleep(0.01)


def stay_in_c(sign: str) -> None:
    Path(sign).touch()
    sum(itertools.repeat(1))


@pytest.mark.parametrize("function", [ignore_signals, stay_in_c])
def test_what_does_not_stop_in_time_is_killed_and_that_is_told(tmp_path: Path, function: Callable[[str], None]) -> None:
    with pytest.raises(dcengine.TaskTimeout, match=r"killed, since it did not stop within 0.3 s"):
        dcengine.submit(function, str(tmp_path / "late"), timeout=0.2).result(60)

    for verb in ("cancel", "interrupt"):
        handle = dcengine.submit(function, str(tmp_path / verb))
        eventually((tmp_path / verb).exists)
        getattr(handle, verb)()
        with pytest.raises(dcengine.JobCancelled, match=r"it did not stop within 0.3 s, so its process was killed"):
            handle.result(60)


def test_an_item_that_does_not_stop_in_time_is_killed_and_that_is_told(tmp_path: Path) -> None:
    batch = dcengine.map(stay_in_c, [str(tmp_path / "item")])
    eventually((tmp_path / "item").exists)

    batch.cancel()

    with pytest.raises(dcengine.JobCancelled, match=r"it did not stop within 0.3 s, so its process was killed"):
        batch[0].result(60)


# ---- what nobody can run -------------------------------------------------------------------


def test_tags_that_no_worker_will_ever_have_say_what_is_missing() -> None:
    with pytest.warns(UserWarning, match="w1, lacks gpu.memory>=1TiB, planet==mars"):
        handle = dcengine.submit(abs, -1, tags="gpu.memory>=1TiB & planet==mars")

    assert "planet==mars" in str(handle.why())
    with pytest.raises(dcengine.NoMatchingWorker, match="planet==mars"):
        dcengine.submit(abs, -1, tags="planet==mars", on_no_match="fail").result(60)
    handle.cancel()
