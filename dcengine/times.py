"""Durations and moments as people give them: numbers, `timedelta`, `datetime`, and texts such as 10m. No I/O."""

from __future__ import annotations

import math
import re
import time
from datetime import datetime, timedelta

from .errors import InvalidOption

UNITS = {"ms": 0.001, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 7 * 86400}  #: in seconds
LONGEST, LATEST = 1e10, 253402300800.0  #: seconds of three centuries; the end of the year 9999
DURATION = "seconds, a timedelta, or a text such as '10m' or '1h30m'"
MOMENT = "Unix seconds, a datetime, a timedelta from now, or a text such as '2030-01-31T12:00' or '+10m'"
PAST = "a time such as '2026-01-31 12:00', '2026-01-31T12:00Z' or '3h ago', or Unix seconds"

_SECONDS = re.compile(r"\d{1,12}(\.\d+)?")
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)\s*")


def seconds(option: str, value: object) -> float:
    """Return the duration *value* in seconds; raises `InvalidOption`."""
    found = value.total_seconds() if isinstance(value, timedelta) else _number(value)
    if found is None and isinstance(value, str):
        found = _sum_of(value)
    if found is None or not 0 <= found <= LONGEST:
        raise InvalidOption(option, _shown(value), DURATION)
    return found


def moment(option: str, value: object) -> float:
    """Return the moment *value* in Unix seconds; a datetime without a zone is one here. Raises `InvalidOption`."""
    found = time.time() + value.total_seconds() if isinstance(value, timedelta) else _number(value)
    if found is None and isinstance(value, str):
        found = _told(value.strip())
    if found is None and isinstance(value, datetime):
        found = _stamp(value)
    if found is None or abs(found) > LATEST:
        raise InvalidOption(option, _shown(value), MOMENT)
    return found


def past(option: str, value: object) -> float:
    """Return the moment *value*, which may also be a text such as '3h ago', in Unix seconds; raises `InvalidOption`."""
    if isinstance(value, str):
        text = value.strip()
        ago = _sum_of(text.removesuffix(" ago")) if text.endswith(" ago") else None
        if ago is not None and ago <= LONGEST:
            return time.time() - ago
        if _SECONDS.fullmatch(text):
            return moment(option, float(text))
    try:
        return moment(option, value)
    except InvalidOption:
        raise InvalidOption(option, _shown(value), PAST) from None


def _number(value: object) -> float | None:
    """Return *value* if it is a number that a duration can be."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:  # a whole number with hundreds of digits
        return None


def _sum_of(text: str) -> float | None:
    """Return the seconds that *text* says, such as 90, 10m or 1h 30m; None if it says none."""
    parts = _PART.findall(text.strip())
    if not parts or _PART.sub("", text.strip()) or (len(parts) > 1 and not all(unit for _, unit in parts)):
        return None
    if any(unit and unit not in UNITS for _, unit in parts):
        return None
    return sum(float(number) * UNITS[unit or "s"] for number, unit in parts)


def _told(text: str) -> float | None:
    if text.startswith("+"):
        later = _sum_of(text[1:])
        return None if later is None else time.time() + later
    try:
        # Before Python 3.11 it does not read the Z of UTC.
        return _stamp(datetime.fromisoformat(text.removesuffix("Z") + ("+00:00" if text.endswith("Z") else "")))
    except ValueError:
        return None


def _stamp(value: datetime) -> float | None:
    try:
        return value.timestamp()
    except (OverflowError, OSError, ValueError):  # outside of what this machine's clock knows
        return None


def _shown(value: object) -> str:
    return repr(value)[:100]
