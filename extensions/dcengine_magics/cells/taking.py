"""Where the names that a cell needs come from: the notebook's namespace, without the shell's own part of it."""

from __future__ import annotations

import builtins
import re
from collections.abc import Mapping
from typing import Any

from .errors import InvalidCell, UndefinedName
from .item import ITEM
from .names import Names

OUTPUT = re.compile(r"_{1,3}|_\d+")  #: names of earlier results
HISTORY = {"In", "Out", "_ih", "_oh", "_i", "_ii", "_iii"}  #: of what was run before; a worker has its own
OF_MODULES = {"__annotations__", "__builtin__", "__builtins__", "__debug__", "__doc__", "__file__"} | {
    "__loader__", "__name__", "__package__", "__spec__", ITEM,
}  # fmt: skip


def taken_from(
    namespace: Mapping[str, Any], hidden: Mapping[str, Any], names: Names, *, in_session: bool = False
) -> dict[str, Any]:
    """Return the values in *namespace* that a cell with *names* needs; raises `UndefinedName`, `InvalidCell`.

    A session may have those that are nowhere here. What the shell itself put there stands in *hidden*, and stays.
    """
    taken, missing = {}, {}
    for name, line in names.needed.items():
        if name in namespace and name not in OF_MODULES:
            value = namespace[name]
            if OUTPUT.fullmatch(name) or not (name in hidden and hidden[name] is value):
                taken[name] = value
            elif name in HISTORY and name in names.certain:
                raise InvalidCell(f"{name} (line {line}) stays in the notebook; _3 travels, or give the value a name")
        elif not in_session and name in names.certain and not _may_exist_there(name, names):
            missing[name] = line
    if missing:
        raise UndefinedName(missing)
    return taken


def _may_exist_there(name: str, names: Names) -> bool:
    return names.is_open or name in names.made or name in OF_MODULES or hasattr(builtins, name)
