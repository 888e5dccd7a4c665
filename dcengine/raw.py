"""Lists with JSON values that are passed on as text, by the rules of Python's own ``json``.

It writes half characters, as in scraped text or names of files, and NaN: more than `msgspec` reads.
"""

from __future__ import annotations

import json
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")


def decode(body: bytes, decoder: msgspec.json.Decoder[T], *, raw: str) -> T:
    """Return the list of structs in *body*, whose field *raw* is a `msgspec.Raw`.

    Raises `ValueError`, of which `msgspec.ValidationError` is one, for what is none.
    """
    text = body.decode()  # raises UnicodeDecodeError: msgspec does not look into raw values
    try:
        return decoder.decode(body)
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError:
        # Slower, and only where it has to be.
        items = json.loads(text)
        found = [_with_raw(item, raw) for item in items] if isinstance(items, list) else items
        return msgspec.convert(found, decoder.type)


def _with_raw(item: Any, raw: str) -> Any:
    """Return *item* with its field *raw* as text again, and without half characters elsewhere."""
    if not isinstance(item, dict):
        return item
    return {name: _text_of(value) if name == raw else _whole(value) for name, value in item.items()}


def _text_of(value: Any) -> msgspec.Raw:
    return msgspec.Raw(json.dumps(value, separators=(",", ":")).encode())


def _whole(value: Any) -> Any:
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value
