"""Tasks are handed out while their lease is still being written: what they take is there all the same."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

import dcengine
from dcengine.store.writer import Writer
from tests.engines import embedded

WHOLES = 40


def same(number: int) -> int:
    time.sleep(0.1 + 0.001 * (number * 7 % 60))  # so that they end one by one, in another order than they began
    return number


@pytest.fixture(autouse=True)
def slow_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have each commit take a while, before and after its leases are told, so that much comes together in one."""
    tell, write = Writer._tell_early, Writer._outcomes

    def told_slowly(self: Writer, *arguments: Any) -> None:
        tell(self, *arguments)
        time.sleep(0.02)

    def written_slowly(self: Writer, *arguments: Any) -> list[Any]:
        time.sleep(0.02)
        return write(self, *arguments)

    monkeypatch.setattr(Writer, "_tell_early", told_slowly)
    monkeypatch.setattr(Writer, "_outcomes", written_slowly)


def test_a_gather_has_all_its_parts_whenever_it_begins(tmp_path: Path) -> None:
    with embedded(tmp_path / "work.db", workers=8, processes=False):
        project = dcengine.Project("sums")
        project.stage(same)
        project.gather(name="sum")(sum)
        for whole in range(1, WHOLES):
            project.add([whole])

        assert project.run().results(60) == list(range(1, WHOLES))


def test_a_call_has_the_results_that_it_takes_whenever_it_begins(tmp_path: Path) -> None:
    with embedded(tmp_path / "work.db", workers=8, processes=False):
        # Each before calls that wait for nothing: it is next as soon as it may begin.
        seconds = [dcengine.submit(abs, dcengine.submit(same, number)) for number in range(WHOLES)]

        assert [each.result(60) for each in seconds] == list(range(WHOLES))
