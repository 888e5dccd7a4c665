from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import dcengine
from dcengine import errors

HEAVY = {
    "IPython",
    "aiohttp",
    "asyncio",
    "cloudpickle",
    "cryptography",
    "dask",
    "distributed",
    "msgspec",
    "numpy",
    "rich",
    "typer",
}


def modules_after(statement: str) -> set[str]:
    """Return the top-level modules that *statement* loads in a fresh interpreter."""
    script = f"{statement}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    return {name.partition(".")[0] for name in json.loads(answer.stdout)}


def test_importing_dcengine_loads_nothing_heavy() -> None:
    loaded = modules_after("import dcengine")

    assert "dcengine" in loaded
    assert loaded & HEAVY == set()


def test_catching_an_error_loads_nothing_heavy() -> None:
    assert modules_after("from dcengine import TaskTimeout") & HEAVY == set()


def test_every_public_name_can_be_had_and_is_listed() -> None:
    for name in dcengine.__all__:
        assert getattr(dcengine, name) is not None, name
        assert name in dir(dcengine)


def test_every_error_is_public() -> None:
    kinds = {
        name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, errors.DcengineError)
    }

    assert kinds - set(dcengine.__all__) == set()


def test_type_checkers_see_the_same_names_as_the_interpreter() -> None:
    tree = ast.parse(Path(dcengine.__file__).read_text())
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {
        alias.asname or alias.name: f".{node.module}:{alias.name}" if node.module else f".{alias.name}:"
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }

    assert seen == {
        name: dcengine._HOMES.get(name, f".errors:{name}") for name in dcengine.__all__ if name != "__version__"
    }


def test_an_unknown_name_is_an_attribute_error() -> None:
    assert not hasattr(dcengine, "nothing_of_this_name")
