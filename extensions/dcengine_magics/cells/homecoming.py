"""What a remote cell made, taken into the notebook's namespace."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import TYPE_CHECKING, Any

from . import parcel
from .cell import CellResult
from .errors import InvalidCell
from .names import Names
from .references import RemoteReference
from .replay import RemoteValue, Replay

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell


class Homecoming:
    """Takes what a cell made into *shell*: all of it, or nothing where it cannot be opened here."""

    def __init__(self, shell: InteractiveShell, replay: Replay, names: Names) -> None:
        self._shell, self._replay, self._names = shell, replay, names

    def take(self, result: CellResult) -> list[str]:
        """Assign the names in *result*, which are returned, and let ``_`` and ``Out`` have its last value."""
        values = self._opened(result.names)
        for name, module in result.modules.items():
            found = self._imported(name, module)
            if found is not None:
                values[name] = found
        for name, stayed in result.stays.items():
            values[name] = RemoteReference(name, stayed, result.session, result.worker)
        last = self._last_value(result, values)
        self._shell.push(values)
        if last is not None:
            self._replay.remember(last)
        return list(values)

    def _opened(self, packed: bytes) -> dict[str, Any]:
        try:
            return parcel.unpack(packed, self._shell.user_global_ns)
        except Exception as error:  # unpickling runs any code
            problem = f"what the cell made cannot be opened here ({type(error).__name__}: {error})"
            raise InvalidCell(f"{problem}; install what is missing, or choose with --out what is to come") from error

    def _imported(self, name: str, module: str) -> ModuleType | None:
        try:
            found = importlib.import_module(module)
            for inner in self._names.submodules:
                if inner.startswith(f"{module}."):
                    importlib.import_module(inner)
        except ImportError as error:
            self._replay.note(f"{name} stays on the worker, it cannot be imported here: {error}")
            return None
        return found

    def _last_value(self, result: CellResult, values: dict[str, Any]) -> Any:
        if not result.has_value:
            return None
        if result.value_is is not None:
            return values[result.value_is]
        if result.value is not None:
            try:
                return parcel.unpack(result.value, self._shell.user_global_ns)["_"]
            except Exception:  # unpickling runs any code; it was shown, and stays where it is
                pass
        return RemoteValue(self._replay.shown or {})
