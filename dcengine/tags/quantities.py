"""The values of tags: numbers with units, versions and texts, and how they compare. No I/O."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from operator import eq, ge, gt, le, lt, ne
from typing import Any

from packaging.version import InvalidVersion, Version

UNITS = {
    "": 1, "B": 1,
    "k": 10**3, "K": 10**3, "kB": 10**3, "KB": 10**3, "Ki": 2**10, "KiB": 2**10,
    "M": 10**6, "MB": 10**6, "Mi": 2**20, "MiB": 2**20,
    "G": 10**9, "GB": 10**9, "Gi": 2**30, "GiB": 2**30,
    "T": 10**12, "TB": 10**12, "Ti": 2**40, "TiB": 2**40,
}  # fmt: skip

_QUANTITY = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)")
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {"==": eq, "!=": ne, ">=": ge, "<=": le, ">": gt, "<": lt}


def compare(found: str, operator: str, wanted: str) -> bool:
    """Tell whether *found* compares with *wanted* by *operator*; what cannot be ordered is not.

    Values are quantities when one of them has a unit, else versions when both read as such
    (so 3.10 is above 3.9), else text, in which ``*`` in *wanted* stands for any characters.
    """
    if "*" in wanted:
        return _matches_pattern(found, wanted) is (operator == "==")
    pair = _comparable(found, wanted)
    if pair is not None:
        return _COMPARE[operator](*pair)
    return operator in ("==", "!=") and _COMPARE[operator](found, wanted)


def _comparable(found: str, wanted: str) -> tuple[object, object] | None:
    if has_unit(found) or has_unit(wanted):
        quantities = quantity(found), quantity(wanted)
        return quantities if None not in quantities else None
    versions = version(found), version(wanted)
    return versions if None not in versions else None


def quantity(text: str) -> float | None:
    """Return the number that *text* says, its unit applied; None if it says none."""
    match = _QUANTITY.fullmatch(text)
    if match is None or match[2] not in UNITS:
        return None
    return float(match[1]) * UNITS[match[2]]


def has_unit(text: str) -> bool:
    """Tell whether *text* is a number with a unit."""
    match = _QUANTITY.fullmatch(text)
    return match is not None and match[2] != "" and match[2] in UNITS


@lru_cache(4096)
def version(text: str) -> Version | None:
    """Return the version that *text* says; None if it says none."""
    try:
        return Version(text) if text[:1].isdigit() else None
    except (InvalidVersion, ValueError):  # ValueError: Python's limit on the digits of an integer
        return None


def _matches_pattern(text: str, pattern: str) -> bool:
    # Not fnmatch: its brackets and question marks are ordinary characters of versions and names.
    parts = pattern.split("*")
    first, *middle, last = parts
    if len(text) < len(first) + len(last) or not (text.startswith(first) and text.endswith(last)):
        return False
    at, end = len(first), len(text) - len(last)
    for part in middle:
        at = text.find(part, at, end)
        if at < 0:
            return False
        at += len(part)
    return True
