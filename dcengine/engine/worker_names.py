"""Names that workers are given: two words and a number, easy to say and to tell apart."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import cache
from importlib import resources

NUMBERS = 1000
TRIES = 50  #: of hundreds of millions of names one or two will do


def new_name(is_taken: Callable[[str], bool]) -> str:
    """Return a name such as ``quiet-otter-71`` that is not taken."""
    for _ in range(TRIES):
        first, second = random.choice(words()), random.choice(words())
        name = f"{first}-{second}-{random.randrange(NUMBERS)}"
        if not is_taken(name):
            return name
    raise RuntimeError("every name that was tried is taken")


@cache
def words() -> list[str]:
    """Return short, harmless words."""
    return resources.files(__package__).joinpath("words.txt").read_text().split()
