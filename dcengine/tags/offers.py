"""What workers offer: their tags, with or without values. No I/O."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ..errors import InvalidTags

Offer = Mapping[str, "str | None"]  #: what one worker has; a tag without a value is None

NAME = re.compile(r"[A-Za-z0-9_.:-]+")
QUOTED_VALUE = re.compile(r"\"([^\"]*)\"|'([^']*)'")
_OFFER = re.compile(rf"\s*(?P<name>{NAME.pattern})\s*(?:==?\s*(?P<value>{QUOTED_VALUE.pattern}|[^,;\"']*))?(?:,|$)")


def parse_offer(text: str) -> dict[str, str | None]:
    """Return the tags of one worker, written like ``gpu,site=lab,note="a, b"``.

    Raises `InvalidTags` that names the position.
    """
    offered: dict[str, str | None] = {}
    at, end = 0, len(text.rstrip())
    while at < end:
        match = _OFFER.match(text, at)
        if match is None:
            raise InvalidTags(text, at, "a worker's tags are written like gpu,site=lab; something else stands")
        if match["name"] in offered:
            raise InvalidTags(text, at, f"the tag {match['name']} is given twice")
        offered[match["name"]] = _offered_value(match, text)
        at = match.end()
    return offered


def _offered_value(match: re.Match[str], text: str) -> str | None:
    value = match["value"]
    if value is None:
        return None
    value = value.strip()
    if not value:
        raise InvalidTags(text, match.start("value"), f"the value of {match['name']} is missing")
    return value[1:-1] if value[0] in "\"'" else value


def devices_offered(offered: Offer, kind: str) -> int:
    """Return how many devices of *kind* a worker with *offered* has: its tag gpu.count, say, or one for gpu alone."""
    count = offered.get(f"{kind}.count")
    if count is not None:
        return int(count) if count.isascii() and count.isdigit() else 0
    return 1 if kind in offered else 0
