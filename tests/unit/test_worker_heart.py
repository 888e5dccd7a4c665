"""When a worker's heart beats, and when it does not."""

from __future__ import annotations

from typing import Any

import pytest

from dcengine.worker import heart
from dcengine.worker.heart import Heart


class Beating(Heart):
    """A heart that asks nobody."""

    def __init__(self, lease: float) -> None:
        super().__init__(0, {})
        self._take_in({"hold": [("token", lease)]})
        self.patience: list[float] = []

    def _ask(self, verb: str, said: Any, timeout: float) -> list[dict[str, Any]]:
        self.patience.append(timeout)
        return []


def test_a_worker_that_goes_on_in_time_is_heard_of_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else one that was held up for a third of its lease might lose it."""
    beating = Beating(lease=30.0)
    monkeypatch.setattr(heart, "_is_stopped", lambda process: True)
    beating._beat_once()
    assert beating.patience == []
    assert beating._interval() <= heart.HELD_UP

    monkeypatch.setattr(heart, "_is_stopped", lambda process: False)
    beating._beat_once()

    assert len(beating.patience) == 1
    assert beating._interval() == 10.0


@pytest.mark.parametrize("lease", [3.0, 6.0, 30.0, 600.0])
def test_a_beat_that_is_lost_leaves_time_for_another_one(monkeypatch: pytest.MonkeyPatch, lease: float) -> None:
    monkeypatch.setattr(heart, "_is_stopped", lambda process: False)
    beating = Beating(lease)
    first = beating._interval()

    beating._beat_once()

    assert first + beating.patience[0] < lease
