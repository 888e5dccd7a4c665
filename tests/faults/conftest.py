"""What the tests that break things share: how often they do, when, and what they report.

Their short form is part of all tests; `make faults` runs the long one (``DCENGINE_FAULTS=long``).
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from typing import TypeVar

import pytest

from tests.faults.forked import Nursery, nursery_in

T = TypeVar("T")

IS_LONG = os.environ.get("DCENGINE_FAULTS") == "long"
ROUNDS = int(os.environ.get("DCENGINE_ROUNDS", "5" if IS_LONG else "1"))


def in_form(*, short: T, long: T) -> T:
    """Return the one of the two that belongs to the form in which these tests run."""
    return long if IS_LONG else short


@pytest.fixture
def seed() -> int:
    """Where all that is random in a test comes from; ``DCENGINE_SEED`` repeats it."""
    seed = int(os.environ.get("DCENGINE_SEED", random.randrange(10**6)))
    print(f"seed {seed}")
    return seed


@pytest.fixture
def dice(seed: int) -> random.Random:
    return random.Random(seed)


@pytest.fixture(scope="package")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    """What engines are forked from that begin in no time."""
    with nursery_in(tmp_path_factory.mktemp("nursery")) as nursery:
        yield nursery
