"""What the tests that kill things share: how often they do, and when."""

from __future__ import annotations

import os
import random

import pytest

ROUNDS = int(os.environ.get("DCENGINE_ROUNDS", "1"))


@pytest.fixture
def dice() -> random.Random:
    seed = int(os.environ.get("DCENGINE_SEED", random.randrange(10**6)))
    print(f"seed {seed}")
    return random.Random(seed)
