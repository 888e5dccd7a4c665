"""How the end of a process is told."""

from __future__ import annotations

import pytest

from dcengine.runner.reports import cause_of


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (3 << 8, "ended with exit code 3"),
        (0, "ended with exit code 0"),
        (11, "was ended by signal 11 (SIGSEGV)"),
        (11 | 0x80, "was ended by signal 11 (SIGSEGV)"),  # with a core dump
        (9, "was ended by signal 9 (SIGKILL), often the system's out-of-memory killer"),
        (40, "was ended by signal 40 (a real-time signal)"),
    ],
)
def test_the_wait_status_of_a_child_is_told_in_words(status: int, told: str) -> None:
    assert cause_of(status) == told
