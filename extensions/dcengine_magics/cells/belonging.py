"""Cells that make sense in the notebook only: what they use is not on a worker, or is something else there."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from itertools import islice
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING

from .background import BackgroundCell
from .names import names_of
from .taking import HISTORY

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

ENGINE = "dcengine"  #: reaches the notebook's engine from the notebook alone
LOOKED_AT = 100  #: members of a list, of which one may be a handle


def belongs_here(shell: InteractiveShell, cell: str) -> bool:
    """Tell whether *cell* uses dcengine itself, a handle, or the notebook's history."""
    try:
        tree = ast.parse(shell.transform_cell(cell))
    except SyntaxError:
        return False
    if any(map(_imports_the_engine, ast.walk(tree))):
        return True
    needed = names_of(tree, shell.transform_cell).needed
    hidden = shell.user_ns_hidden
    if any(name in HISTORY and shell.user_ns.get(name) is hidden.get(name) for name in needed):
        return True
    return any(_holds_ours(shell.user_ns.get(name)) for name in needed)


def _imports_the_engine(node: ast.AST) -> bool:
    if isinstance(node, ast.Import):
        return any(_is_the_engine(alias.name) for alias in node.names)
    return isinstance(node, ast.ImportFrom) and not node.level and _is_the_engine(node.module or "")


def _is_the_engine(module: str) -> bool:
    return module.partition(".")[0] == ENGINE


def _holds_ours(value: object) -> bool:
    """Tell whether *value* is something of dcengine's, or a collection with such things in it."""
    members: Iterable[object] = ()
    if type(value) in (list, tuple, set):
        members = value  # type: ignore[assignment]  # it is one
    elif type(value) is dict:
        members = value.values()
    return _is_ours(value) or any(map(_is_ours, islice(members, LOOKED_AT)))


def _is_ours(value: object) -> bool:
    if isinstance(value, ModuleType):
        return _is_the_engine(value.__name__)
    if isinstance(value, BaseException):  # data like any other
        return False
    kind = value if isinstance(value, (type, FunctionType)) else type(value)
    return isinstance(value, BackgroundCell) or _is_the_engine(str(kind.__module__))
