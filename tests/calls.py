"""Functions that tests have workers call."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any


def hold(path: str, value: Any = None) -> Any:
    """Run until the file *path* exists; return *value*."""
    while not Path(path).exists():
        time.sleep(0.01)
    return value


def refuse_odd(n: int) -> int:
    """Return *n* if it is even; raise `ValueError` if not."""
    if n % 2:
        raise ValueError(n)
    return n
