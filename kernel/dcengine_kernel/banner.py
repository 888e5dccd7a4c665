"""What the kernel says of itself: its version, and which engine its cells use. It starts none and asks none."""

from __future__ import annotations

import sys
from typing import Any

from dcengine import __version__, owner
from dcengine.errors import DcengineError
from dcengine.plain import clean

from .extension import NAME, is_loaded


def banner(shell: Any) -> str:
    """Return our line of the banner for *shell*, and a second one where our extension is missing."""
    line = f"dcengine {__version__}: {clean(engine(), 500)}"
    if is_loaded(shell):
        return line
    return f"{line}\nIts extension was not loaded; %load_ext {NAME} says why."


def engine() -> str:
    """Return which engine cells use, or why none can be told."""
    try:
        # Not imported for this, which takes long: until somebody has, nobody can have chosen another engine.
        api = sys.modules.get("dcengine.api")
        return str(api.front.describe()) if api else owner.describe()
    except (DcengineError, OSError, ValueError) as error:
        return str(error)
