"""Durations and moments as people give them."""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone

import pytest

from dcengine import times
from dcengine.errors import InvalidOption


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (0, 0), (1.5, 1.5), (timedelta(minutes=2), 120), ("90", 90), ("10m", 600), ("2h", 7200), ("1h30m", 5400),
        ("1h 30m", 5400), ("0.5 s", 0.5), ("500ms", 0.5), ("1d", 86400), ("2w", 1209600), (" 5min ", 300),
    ],
)  # fmt: skip
def test_durations_are_read(value: object, seconds: float) -> None:
    assert times.seconds("timeout", value) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "value",
    ["", "m", "10 x", "1h30", "5 4", "-3", -1, True, None, [], float("nan"), float("inf"), 10**400, 10**12,
     timedelta(seconds=-1), "1e3"],
)  # fmt: skip
def test_what_is_no_duration_is_refused_with_an_example(value: object) -> None:
    with pytest.raises(InvalidOption, match=r"^timeout cannot be .*'10m' or '1h30m'"):
        times.seconds("timeout", value)


def test_moments_are_read() -> None:
    noon = datetime(2030, 1, 31, 12, tzinfo=timezone.utc)

    assert times.moment("t", 5.5) == 5.5
    for same in (noon, noon.timestamp(), "2030-01-31T12:00Z", "2030-01-31T12:00+00:00", "2030-01-31T14:00+02:00"):
        assert times.moment("t", same) == noon.timestamp()
    assert times.moment("t", "2030-01-31T12:00") == datetime(2030, 1, 31, 12).timestamp()
    for later in (timedelta(minutes=10), "+10m"):
        assert times.moment("t", later) - time.time() == pytest.approx(600, abs=5)


@pytest.mark.parametrize("value", ["", "tomorrow", "10m", "+x", None, True, float("nan"), 1e300, timedelta.max])
def test_what_is_no_moment_is_refused_with_an_example(value: object) -> None:
    with pytest.raises(InvalidOption, match=r"^not_before cannot be .*'\+10m'"):
        times.moment("not_before", value)


@pytest.mark.parametrize(
    ("text", "seconds_ago"), [("3h ago", 10_800.0), (" 1h 30m ago ", 5400.0), ("10 ago", 10.0), ("+0s", 0.0)]
)
def test_a_time_that_is_over_may_be_told_by_how_long(text: str, seconds_ago: float) -> None:
    assert times.past("--since", text) == pytest.approx(time.time() - seconds_ago, abs=5)


def test_a_time_that_is_over_may_be_a_date() -> None:
    told = datetime(2026, 11, 20, 12, 0).timestamp()

    assert times.past("--since", "2026-11-20 12:00") == times.past("--since", "2026-11-20T12:00:00") == told
    assert times.past("--since", "2026-11-20T12:00Z") == times.past("--since", "1795176000") == 1795176000.0


@pytest.mark.parametrize("text", ["yesterday", "ago", "3 parsecs ago", "-3h", "99999999w ago"])
def test_a_time_that_is_over_and_cannot_be_read_is_refused_with_samples(text: str) -> None:
    with pytest.raises(InvalidOption, match="'3h ago'"):
        times.past("--since", text)
