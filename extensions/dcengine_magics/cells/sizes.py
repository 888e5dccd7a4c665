"""Numbers of bytes as people think of them."""

from __future__ import annotations


def size(count: int) -> str:
    """Return *count* bytes in the unit in which people think of them."""
    for unit, one in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= one:
            return f"{count / one:.1f} {unit}"
    return f"{count} B"
