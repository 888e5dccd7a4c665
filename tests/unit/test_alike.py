"""What reasons of failures have in common."""

from __future__ import annotations

import pytest

from dcengine.engine.alike import LONGEST, pattern_of


@pytest.mark.parametrize(
    ("reason", "pattern"),
    [
        ("ValueError: 17 is odd", "ValueError: N is odd"),
        ("it took longer than 2.5 s", "it took longer than N s"),
        (
            "FileNotFoundError: [Errno 2] No such file: '/data/a b/17.jpg'",
            "FileNotFoundError: [Errno N] No such file: '…'",
        ),
        ("cannot read /mnt/scratch/run_7/x.npy, gave up", "cannot read PATH gave up"),
        ("HTTP 503 from https://host:8080/a?b=1", "HTTP N from URL"),
        ("object at 0x7f00de, id 0a1b2c3d4e5f", "object at ID, id ID"),
        ("shard 3f2504e0-4f89-11d3-9a0c-0305e82c3301 is gone", "shard ID is gone"),
        ("loss is 1e-05, was 12,345", "loss is N, was N"),
        ("utf8 and float32 stay names, so does a/b", "utf8 and float32 stay names, so does a/b"),
        ("first line\nsecond line 2", "first line"),
        ("don't do that, it's bad", "don'…'s bad"),
        ("", ""),
    ],
)
def test_what_differs_from_job_to_job_is_left_out(reason: str, pattern: str) -> None:
    assert pattern_of(reason) == pattern


def test_a_pattern_is_short_and_found_quickly_whatever_the_reason() -> None:
    for hostile in ("9" * 100_000, "'" * 100_001, "/a" * 50_000, "a-" * 50_000, "0x" * 50_000, "-" * 100_000):
        assert len(pattern_of(hostile)) <= LONGEST
