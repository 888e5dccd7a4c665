from __future__ import annotations

import time

import pytest

from dcengine.cluster.launcher import HEALTHY_SECONDS, LONGEST_PAUSE, _in_words, _Started
from dcengine.cluster.orders import WorkerOrders
from dcengine.cluster.settings import Identity

WORKER = WorkerOrders(name="w1", identity=Identity())


def pause_after(failures: int, *, lived: float = 0.0) -> float:
    now = time.monotonic()
    return _Started(WORKER, failures, now - lived).again().at - now


def test_the_first_end_of_a_worker_is_made_good_at_once() -> None:
    assert pause_after(0) == pytest.approx(0, abs=0.1)


def test_a_worker_that_keeps_ending_waits_longer_each_time_up_to_a_limit() -> None:
    pauses = [round(pause_after(failures), 2) for failures in range(1, 12)]

    assert pauses == sorted(pauses)
    assert pauses[1] == pytest.approx(2 * pauses[0], abs=0.1)
    assert pauses[-1] == pytest.approx(LONGEST_PAUSE, abs=0.1)


def test_a_worker_that_lived_long_starts_afresh() -> None:
    assert pause_after(8, lived=HEALTHY_SECONDS + 1) == pytest.approx(0, abs=0.1)


def test_the_end_of_a_process_is_put_in_words() -> None:
    assert _in_words(9) == "was ended by SIGKILL"
    assert _in_words(3 << 8) == "ended with status 3"
