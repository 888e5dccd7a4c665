"""What a submission may ask for."""

from __future__ import annotations

from .. import tags
from ..blobs import is_reference
from ..errors import InvalidOption, PayloadTooLarge
from ..verbs import Options

VALUE_LIMIT = 512 << 20  #: bytes of one packed value
PRIORITY_LIMIT = 1_000_000
RETRIES_LIMIT = 1000
TIME_LIMIT = 253_402_300_800  #: Unix seconds: the year 10000, which no clock shows


def check(options: Options) -> None:
    """Raise `InvalidTags` or `InvalidOption` for what cannot be asked."""
    tags.parse(options.tags)
    if not 0 <= options.retries <= RETRIES_LIMIT:
        raise InvalidOption("retries", str(options.retries), f"a number from 0 to {RETRIES_LIMIT}")
    if not 0 <= options.crash_retries <= RETRIES_LIMIT:
        raise InvalidOption("crash_retries", str(options.crash_retries), f"a number from 0 to {RETRIES_LIMIT}")
    if options.timeout is not None and not 0 < options.timeout < 1e9:
        raise InvalidOption("timeout", str(options.timeout), "a positive number of seconds, or None for no limit")
    if abs(options.priority) > PRIORITY_LIMIT:
        raise InvalidOption("priority", str(options.priority), f"a number within +-{PRIORITY_LIMIT}")
    if options.not_before is not None and not 0 <= options.not_before < TIME_LIMIT:
        raise InvalidOption("not_before", str(options.not_before), "a time in Unix seconds")
    if options.keep is not None and not 0 <= options.keep < 1e10:
        raise InvalidOption("keep", str(options.keep), "a number of seconds from 0 on, or None for ever")


def check_value(what: str, data: bytes) -> None:
    """Raise for a packed value that is too large, or that would stand for one which somebody else has stored."""
    check_size(what, len(data))
    if is_reference(data):
        raise InvalidOption(what, "a reference to a stored value", "the value itself, packed")


def check_size(what: str, size: int) -> None:
    """Raise `PayloadTooLarge` for a value above what one row may hold."""
    if size > VALUE_LIMIT:
        raise PayloadTooLarge(what, size, VALUE_LIMIT)
