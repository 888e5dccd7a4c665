"""How values look on the way to old clients and back: always a text, JSON behind a mark. No I/O."""

from __future__ import annotations

import json
from typing import Any

import msgspec

MARK = "<!json!>"  #: before the JSON text of whatever is not a text itself

_any = msgspec.json.Decoder()


class Malformed(ValueError):
    """A request that is not what it should be."""


def to_client(value: bytes) -> str:
    """Return a JSON *value* as the text that a client gets."""
    text = value.decode()
    return str(_from_json(text)) if text.lstrip()[:1] == '"' else MARK + text


def from_client(text: str) -> bytes:
    """Return what a client hands in as the JSON value that is stored; `to_client` makes the same *text* of it."""
    if text.startswith(MARK) and _is_value(text[len(MARK) :]):
        return text[len(MARK) :].encode()
    return json_of(text)


def _is_value(text: str) -> bool:
    """Tell whether *text* is JSON, as Python writes it, of something that is not a text itself.

    What is a text itself would come back without its mark.
    """
    try:
        text.encode()  # half characters that are not written out stand in no file
        return not isinstance(_from_json(text), str)
    except (ValueError, RecursionError):
        return False


def _from_json(text: str) -> Any:
    try:
        return _any.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError):
        return json.loads(text)  # it takes NaN and half characters too


def json_of(value: Any) -> bytes:
    """Return *value* as JSON."""
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        return json.dumps(value).encode()


def fields_of(body: bytes) -> dict[str, Any]:
    """Return the object in the *body* of a request; raises `Malformed`."""
    try:
        found = _from_json(body.decode())
    except (ValueError, RecursionError) as error:
        raise Malformed("the body is not JSON") from error
    if not isinstance(found, dict):
        raise Malformed("the body is not a JSON object")
    return found


def token_in(fields: dict[str, Any]) -> str:
    """Return the token, empty where there is null: so says a client that has never got one. Raises `Malformed`."""
    if "token" not in fields:
        raise Malformed("token is missing")
    token = fields["token"]
    return token if isinstance(token, str) else ""


def text_in(fields: dict[str, Any], name: str) -> str:
    """Return the field *name*, a text; a number is taken for one. Raises `Malformed`."""
    value = fields.get(name)
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        problem = "missing" if name not in fields else "no text"
        raise Malformed(f"{name} is {problem}")
    return str(value)
