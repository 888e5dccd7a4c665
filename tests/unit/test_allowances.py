"""How many tasks somebody may hold at once."""

from __future__ import annotations

import pytest

from dcengine.engine.allowances import HOLDER_LIMIT, VOLUNTEER_LIMIT, Allowances, allowance


@pytest.mark.parametrize(
    ("accepted", "allowed"), [(0, 4), (1, 5), (100, 104), (996, 1000), (10_000, VOLUNTEER_LIMIT), (-3, 4)]
)
def test_a_volunteer_may_hold_four_and_one_more_for_each_task_of_the_last_day(accepted: int, allowed: int) -> None:
    assert allowance(is_volunteer=True, accepted_today=accepted) == allowed


def test_who_has_a_token_may_hold_ten_thousand_from_the_beginning() -> None:
    assert allowance(is_volunteer=False) == HOLDER_LIMIT == 10_000


def test_what_is_on_its_way_counts_as_held() -> None:
    allowances = Allowances()
    allowances.take("vera", 2)
    with allowances.promise("vera", 1):
        assert allowances.room_of("vera", 4) == 1
        with allowances.promise("vera", 5):
            assert allowances.room_of("vera", 4) == 0
        assert allowances.held_by("vera") == 2
        assert allowances.room_of("victor", 4) == 4
    assert allowances.room_of("vera", 4) == 2


def test_what_has_come_is_not_on_its_way_as_well() -> None:
    allowances = Allowances()
    with allowances.promise("vera", 3) as promise:
        for _ in range(3):
            allowances.take("vera")
            promise.keep()
            assert allowances.room_of("vera", 4) == 1
    promise.keep()  # late, for somebody who waits no longer

    assert allowances.room_of("vera", 4) == 1


def test_who_holds_nothing_is_forgotten() -> None:
    allowances = Allowances()
    for n in range(100):
        allowances.take(f"volunteer {n}")
        with allowances.promise(f"volunteer {n}", 3):
            allowances.take(f"volunteer {n}", -1)

    assert not allowances._held
    assert not allowances._promised
