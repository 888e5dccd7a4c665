"""What reasons have in common that differ only in numbers, names and paths. No I/O."""

from __future__ import annotations

import re

LONGEST = 300  #: characters of a pattern
LOOKED_AT = 1000  #: characters of a reason: what looks ahead takes time that grows with their square

# In this order: what is quoted may hold a path, a path numbers.
_VARIES = re.compile(
    r"""
    (?P<quoted> '[^'\n]*' | "[^"\n]*" | `[^`\n]*` )
  | (?P<url> \b[a-z][a-z0-9+.-]*://\S+ )
  | (?P<path> (?<![\w.]) ~?(?:/[\w.@%+=:,-]+){2,} /? )
  | (?P<hex> \b0x[0-9a-fA-F]+\b | \b(?=[0-9a-f-]*\d)[0-9a-f]{8,}(?:-[0-9a-f]{4,})*\b )
  | (?P<number> [-+]?\b\d[\d,_]*(?:\.\d+)?(?:e[-+]?\d+)?\b )
    """,
    re.VERBOSE,
)
_MARKS = {"quoted": "'…'", "url": "URL", "path": "PATH", "hex": "ID", "number": "N"}


def pattern_of(reason: str) -> str:
    """Return the first line of *reason* with marks in place of what differs from one job to another."""
    line = reason.strip().partition("\n")[0][:LOOKED_AT]
    return _VARIES.sub(lambda found: _MARKS[str(found.lastgroup)], line)[:LONGEST]
