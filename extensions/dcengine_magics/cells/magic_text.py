"""IPython's own syntax after its translation to calls, and the names that stand in its texts."""

from __future__ import annotations

import ast
import re
import string
from collections.abc import Iterator

DOLLAR_NAME = re.compile(r"(?<!\$)\$([^\W\d]\w*)")
OUTPUTS = re.compile(r"--(?:out|err)[= ]+(\w+)")
OPTIONS = re.compile(r"^(?:\s*--?\w[\w-]*(?:[= ]*\d+)?)+(?=\s|$)")


def call_of(node: ast.Call) -> tuple[str, list[str]]:
    """Return method and texts of a ``get_ipython().method("text", ...)`` as the translation makes them."""
    function = node.func
    texts = [part.value for part in node.args if isinstance(part, ast.Constant) and isinstance(part.value, str)]
    if (
        isinstance(function, ast.Attribute)
        and isinstance(function.value, ast.Call)
        and isinstance(function.value.func, ast.Name)
        and function.value.func.id == "get_ipython"
        and len(texts) == len(node.args) > 0
    ):
        return function.attr, [*texts, "", ""]
    return "", []


def without_options(line: str) -> str:
    """Return the code on the line of a magic such as ``-n 10 f(x)``."""
    return OPTIONS.sub("", line).lstrip()


def outputs_on(line: str) -> list[str]:
    """Return the names that get output, on the line of a magic such as ``%%bash --out text``."""
    return OUTPUTS.findall(line)


def dollar_names(text: str) -> list[str]:
    """Return the names that *text* mentions as ``$name``."""
    return DOLLAR_NAME.findall(text)


def expressions_in(text: str) -> Iterator[ast.expr]:
    """Yield the expressions that *text* has in braces; what is none stays as it is there."""
    for field in _fields(text):
        try:
            yield ast.parse(field.strip(), mode="eval").body
        except SyntaxError:
            continue


def _fields(text: str) -> Iterator[str]:
    try:
        for _, name, specification, _ in string.Formatter().parse(text):
            if name:
                yield name
            if specification:
                yield from _fields(specification)
    except ValueError:  # a single brace
        return
