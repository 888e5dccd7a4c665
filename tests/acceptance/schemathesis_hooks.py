"""How requests are made for test_schemathesis.py: bodies in MessagePack, packed values, names of things that are there.

Loaded by the ``schemathesis`` command, in a process of its own.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import os
from typing import Any

import msgspec
import schemathesis
from hypothesis import strategies as st
from schemathesis.core.parameters import ParameterLocation

from dcengine.codec import dumps, pack, pack_json

MARK = "bytes:"  #: how bytes begin on their way through JSON
JSON_BLOCK = pack([pack_json(item, what="an item") for item in range(2)])
VALUES = [b"", b"J", b"J1", pack_json({"a": [1, None]}, what="a value"), dumps(((), {})), pack([]), JSON_BLOCK, b"\xff"]
ENDING = ("DELETE", "cancel", "/kill", "/ban", "/revoke")  #: routes that other names are made for
KEY = "Idempotency-Key"
KNOWN: dict[str, str] = json.loads(os.environ["DCENGINE_FUZZ_KNOWN"])  #: what is there, by its name in a path
LEASES = iter(json.loads(os.environ["DCENGINE_FUZZ_LEASES"]))  #: tokens of tasks that are held
FOLDER = os.environ["DCENGINE_FUZZ_FOLDER"]  #: the only one that anything is written to
KEYED = {"submit", "create_token", "vacuum", "delete_project"}  #: operations that are asked under keys, too
HURRY = 0.01  #: seconds that a request waits at most

_numbers = itertools.count()
_values = st.one_of(st.sampled_from(VALUES), st.binary(max_size=40))
schemathesis.openapi.format("packed", _values.map(lambda data: MARK + base64.b64encode(data).decode()))


@schemathesis.hook
def before_load_schema(context: schemathesis.HookContext, raw_schema: dict[str, Any]) -> None:
    """Look into bodies of MessagePack as if they were JSON; try keys at a few routes: one piece of code reads all."""
    raw_schema["components"]["schemas"] = _packed(raw_schema["components"]["schemas"])
    for methods in raw_schema["paths"].values():
        for operation in methods.values():
            said = operation["parameters"]
            if operation["operationId"] not in KEYED and any(each["name"] == KEY for each in said):
                operation["parameters"] = [each for each in said if each["name"] not in (KEY, "wait")]
            for content in operation.get("requestBody", {}).get("content", {}).values():
                content["schema"] = content["schema"].get("contentSchema", content["schema"])


def _packed(node: Any) -> Any:
    if isinstance(node, list):
        return [_packed(each) for each in node]
    if not isinstance(node, dict):
        return node
    if node.get("contentEncoding") == "base64":
        return {"type": "string", "format": "packed"}
    return {name: _packed(each) for name, each in node.items()}


@schemathesis.serializer("application/msgpack")
def as_msgpack(context: schemathesis.SerializationContext, value: Any) -> bytes:
    """Return *value* as MessagePack; what it cannot say, as no MessagePack."""
    if isinstance(value, bytes):
        return value
    try:
        return msgspec.msgpack.encode(_with_bytes(value))
    except (OverflowError, TypeError, ValueError):
        return b"\xc1"


def _with_bytes(node: Any) -> Any:
    if isinstance(node, list):
        return [_with_bytes(each) for each in node]
    if isinstance(node, str) and node.startswith(MARK):
        return base64.b64decode(node[len(MARK) :])
    if not isinstance(node, dict):
        return node
    found = {name: _with_bytes(each) for name, each in node.items()}
    if isinstance(found.get("digest"), bytes) and isinstance(found.get("code"), bytes):
        found["digest"] = hashlib.sha256(found["code"]).digest()  # else nothing would get past that check
    return found


@schemathesis.hook
def before_call(context: schemathesis.HookContext, case: schemathesis.Case, kwargs: dict[str, Any]) -> None:
    """Ask about what is there, wait for nothing long, and have no two requests under one key."""
    if not any(word in case.operation.label for word in ENDING):
        _name_what_is_there(case)
    elif (case.path_parameters or {}).get("name") == KNOWN["name"]:
        case.path_parameters["name"] = "another"
    for said in (case.query, case.body):
        wait = said.get("wait") if isinstance(said, dict) else None
        if isinstance(wait, int | float) and wait > HURRY:
            said["wait"] = HURRY
    if isinstance(key := (case.headers or {}).get(KEY), str) and 0 < len(key) < 180:
        case.headers[KEY] = f"{key}{next(_numbers)}"
    if case.operation.label == "POST /v1/backup" and isinstance(case.body, dict) and "path" in case.body:
        case.body["path"] = _inside(case.body["path"])
    if not isinstance(case.body, bytes):
        case.body = _whole(case.body)


def _name_what_is_there(case: schemathesis.Case) -> None:
    """Put names of things that are there into about half of the right requests."""
    parts = case.meta.components if case.meta is not None else {}
    places = {
        ParameterLocation.PATH: [case.path_parameters],
        ParameterLocation.QUERY: [case.query],
        ParameterLocation.BODY: case.body if isinstance(case.body, list) else [case.body],
    }
    for place, items in places.items():
        is_right = place in parts and parts[place].mode is schemathesis.GenerationMode.POSITIVE
        for said in items if is_right else ():
            for name in KNOWN.keys() & said.keys() if isinstance(said, dict) else ():
                if len(str(said[name])) % 2:
                    said[name] = next(LEASES, "") if name == "token" else KNOWN[name]


def _whole(node: Any) -> Any:
    """Return *node* with 1 for 1.0: JSON Schema takes either for an integer, msgspec only the first."""
    if isinstance(node, list):
        return [_whole(each) for each in node]
    if isinstance(node, dict):
        return {name: _whole(each) for name, each in node.items()}
    return int(node) if isinstance(node, float) and node.is_integer() else node


def _inside(path: Any) -> Any:
    """Return a path instead of *path* that leads nowhere out of the test's own folder."""
    is_short = isinstance(path, str) and 0 < len(path) < 100 and "\0" not in path
    return f"{FOLDER}/{path.encode(errors='replace').hex()}" if is_short else path
