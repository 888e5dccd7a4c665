"""Comms of ipykernel's own class, which older libraries make on a worker: they go the way of all others.

Patched when, and if, such a library imports it: ipykernel takes a while to load.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

Patch = Callable[[ModuleType], None]


class Patches(MetaPathFinder):
    """Has *patches*, by the name of a module, applied to it as soon as it is loaded; at once to one that is."""

    def __init__(self, patches: dict[str, Patch]) -> None:
        self._patches = patches

    def install(self) -> None:
        """Wait for the modules from now on; once is enough."""
        for name in [name for name in self._patches if name in sys.modules]:
            self._patches.pop(name)(sys.modules[name])
        if self._patches and self not in sys.meta_path:
            sys.meta_path.insert(0, self)

    def find_spec(self, name: str, path: Any = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Find module *name* as others do, and have it patched when it is loaded; called for each import."""
        patch = self._patches.pop(name, None)
        spec = importlib.util.find_spec(name) if patch is not None else None
        if patch is None or spec is None or spec.loader is None:
            return None
        load = spec.loader.exec_module

        def load_patched(module: ModuleType) -> None:
            load(module)
            patch(module)

        spec.loader.exec_module = load_patched  # type: ignore[method-assign]
        return spec
