"""Local modules, which workers may not have: what travels of them, and how it is imported where it arrives.

What a function refers to travels with it by value. What it imports when it runs (``def f(): import helper``) travels
as source beside it, with all that these modules import in turn, and whole packages.
"""

from __future__ import annotations

import ast
import importlib.abc
import importlib.machinery
import importlib.util
import os
import secrets
import sys
import sysconfig
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import cloudpickle

from .packages import imports_of

PACKAGE_LIMIT = 16 << 20  #: bytes of source of one package that travel
KNOWN_LIMIT = 1000  #: functions of which is kept what they import
ORIGIN = secrets.token_bytes(8)  #: tells this process: it has its modules itself

_installed = tuple(
    str(Path(path).resolve())
    for name, path in sysconfig.get_paths().items()
    if name in ("stdlib", "platstdlib", "purelib", "platlib")
)


class ModuleChanged(UserWarning):
    """A module was edited after it was imported: what travels is what was imported."""


class Source(NamedTuple):
    """A module as it travels."""

    text: bytes
    file: str
    is_package: bool


# ---- which are local -----------------------------------------------------------------------

_seen: set[str] = set()
_last_look: tuple[int, str] = (0, "")  #: how many modules there were, and the newest


def ship_local_modules_by_value() -> None:
    """Register modules that live outside the installation, since workers may not have them."""
    global _last_look
    look = len(sys.modules), next(reversed(sys.modules))
    if look == _last_look:  # as before nearly every call: to compare a thousand names takes longer than to pack it
        return
    _last_look = look
    for name in sys.modules.keys() - _seen:
        _seen.add(name)
        module = sys.modules.get(name)
        if isinstance(module, ModuleType) and _is_local(module):
            cloudpickle.register_pickle_by_value(module)
            _versions.note(module)


def travels_by_value(module: str) -> bool:
    """Tell whether what the module of that name defines travels as it is, not as a name to import it by."""
    ship_local_modules_by_value()
    registered = cloudpickle.list_registry_pickle_by_value()
    return module == "__main__" or any(module == name or module.startswith(f"{name}.") for name in registered)


def _is_local(module: ModuleType) -> bool:
    file = getattr(module, "__file__", None)
    return not _is_ours(module.__name__) and bool(file) and str(file).endswith(".py") and _is_local_file(str(file))


def _is_ours(name: str) -> bool:
    return name == "__main__" or name.partition(".")[0].startswith("dcengine")


def _is_local_file(file: str) -> bool:
    path = str(Path(file).resolve())
    return not path.startswith(_installed) and "site-packages" not in path and "dist-packages" not in path


# ---- edited since --------------------------------------------------------------------------


class _Versions:
    """Knows of each local module which version of its file was imported."""

    def __init__(self) -> None:
        self._imported: dict[str, tuple[object, float | None]] = {}  #: by name: its spec, when the file was changed
        self._told: dict[str, float | None] = {}

    def note(self, module: ModuleType) -> None:
        """Take note of a module as it is imported now."""
        self._imported[module.__name__] = module.__spec__, _changed(module)

    def warn_of_edited(self, code: bytes) -> None:
        """Warn of each module of which something is in the pickled *code* and whose file is another now, once."""
        for name, (spec, changed) in list(self._imported.items()):
            module = sys.modules.get(name)
            if module is None or name.encode() not in code:
                continue
            if module.__spec__ is not spec:  # it was reloaded, so what travels is what is in the file
                self.note(module)
            elif (now := _changed(module)) != changed and self._told.get(name) != now:
                self._told[name] = now
                message = (
                    f"{module.__file__} was edited after it was imported; what travels to the workers is the module as "
                    f"it was then: importlib.reload({name}), or %autoreload in a notebook, brings it up to date"
                )
                warnings.warn(message, ModuleChanged, stacklevel=_frames_of_ours())


def _changed(module: ModuleType) -> float | None:
    try:
        return os.stat(str(module.__file__)).st_mtime
    except OSError:
        return None


def _frames_of_ours() -> int:
    frame, count = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_globals.get("__package__") == __package__:
        frame, count = frame.f_back, count + 1
    return count


_versions = _Versions()
warn_of_edited = _versions.warn_of_edited

# ---- imported when a function runs ---------------------------------------------------------

_known: dict[bytes, list[str]] = {}  #: local modules that functions import when they run, by the digest of their code


def sources_for(function: Callable[..., Any], digest: bytes) -> dict[str, Source]:
    """Return the local modules that *function* imports when it runs, by name; *digest* is that of its pickled code."""
    if digest not in _known:
        if len(_known) >= KNOWN_LIMIT:
            _known.clear()
        tops = {name.partition(".")[0] for name in imports_of(function)}
        _known[digest] = sorted(name for name in tops if _spec_of(name) is not None)
    return _sources_of(_known[digest]) if _known[digest] else {}


def _sources_of(tops: Sequence[str]) -> dict[str, Source]:
    """Return the modules called *tops* and all local ones that they import in turn."""
    found: dict[str, Source] = {}
    waiting, met = list(tops), set(tops)
    while waiting:
        spec = _spec_of(waiting.pop())
        modules = {} if spec is None else dict(_files_of(spec))
        for source in modules.values():
            for name in _imports_in(source.text) - met:
                met.add(name)
                waiting.append(name)
        found.update(modules)
    return dict(sorted(found.items()))


def _spec_of(top: str) -> importlib.machinery.ModuleSpec | None:
    """Return where the local module *top* is, None for one that is not local, or not there."""
    if _is_ours(top) or top in sys.builtin_module_names or top in sys.stdlib_module_names:
        return None
    spec = importlib.machinery.PathFinder.find_spec(top)
    places = [] if spec is None else [spec.origin] if spec.origin else list(spec.submodule_search_locations or ())
    is_source = all(place and (place.endswith(".py") or Path(place).is_dir()) for place in places)
    return spec if places and is_source and all(_is_local_file(str(place)) for place in places) else None


def _files_of(spec: importlib.machinery.ModuleSpec) -> Iterator[tuple[str, Source]]:
    """Yield the module at *spec*, and all in its folder if it is a package."""
    if spec.submodule_search_locations is None:
        assert spec.origin is not None
        yield spec.name, Source(Path(spec.origin).read_bytes(), spec.origin, is_package=False)
        return
    size = 0
    for folder in map(Path, spec.submodule_search_locations):
        for file in sorted(folder.rglob("*.py")):
            parts = file.relative_to(folder).with_suffix("").parts
            if not all(part.isidentifier() for part in parts):
                continue
            is_package = parts[-1] == "__init__"
            size += file.stat().st_size
            if size > PACKAGE_LIMIT:
                _warn_of_size(spec.name)
                return
            name = ".".join([spec.name, *(parts[:-1] if is_package else parts)])
            yield name, Source(file.read_bytes(), str(file), is_package)


def _warn_of_size(package: str) -> None:
    message = (
        f"the local package {package!r} has more than {PACKAGE_LIMIT >> 20} MiB of source, too much to travel as a "
        "whole; install it on the workers"
    )
    warnings.warn(message, stacklevel=_frames_of_ours())


def _imports_in(text: bytes) -> set[str]:
    """Return the top names that a module imports, wherever in it; a relative import is within what travels anyway."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return set()  # whoever imports it hears of that
    names = set[str]()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names


# ---- where they arrive ---------------------------------------------------------------------


class Accompanied:
    """A function with the modules that it imports when it runs."""

    def __init__(self, function: Callable[..., Any], sources: dict[str, Source], origin: bytes = ORIGIN) -> None:
        self.function, self.sources, self.origin = function, sources, origin

    def __reduce__(self) -> tuple[Any, ...]:
        plain = {name: tuple(source) for name, source in self.sources.items()}
        return _accompanied, (self.function, plain, self.origin)

    @property
    def needs(self) -> Callable[[], None] | None:
        """What is to be called before the function is, None if nothing is."""
        return None if self.origin == ORIGIN else partial(_finder.use, self.sources)


def _accompanied(function: Callable[..., Any], sources: dict[str, tuple[Any, ...]], origin: bytes) -> Accompanied:
    return Accompanied(function, {name: Source(*source) for name, source in sources.items()}, origin)


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
    """Imports modules that have travelled; of each there may be several versions, for different functions."""

    def __init__(self) -> None:
        self._sources: dict[str, Source] = {}
        self._loaded: dict[str, tuple[Source, ModuleType]] = {}

    def use(self, sources: dict[str, Source]) -> None:
        """Have the next imports find *sources*; what was imported of other versions is forgotten."""
        if self._sources is sources:
            return
        if self not in sys.meta_path:
            sys.meta_path.insert(0, self)
        self._sources = sources
        for name, source in sources.items():
            module = sys.modules.get(name)
            if module is None:
                continue
            loaded = self._loaded.get(name)
            if loaded is None or loaded[0] != source or loaded[1] is not module:
                self._forget(name)

    def _forget(self, name: str) -> None:
        """Forget a module with all that imported it: they hold the old one."""
        for each in [other for other in self._loaded if other in sys.modules] + [name]:
            sys.modules.pop(each, None)
            self._loaded.pop(each, None)

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        source = self._sources.get(name)
        if source is None:
            return self._folder_spec(name)
        spec = importlib.machinery.ModuleSpec(name, self, origin=source.file, is_package=source.is_package)
        spec.has_location = True
        return spec

    def _folder_spec(self, name: str) -> importlib.machinery.ModuleSpec | None:
        """Return the spec of a package without a file of its own, whose modules are here."""
        if not any(each.startswith(f"{name}.") for each in self._sources):
            return None
        return importlib.machinery.ModuleSpec(name, None, is_package=True)

    def is_package(self, name: str) -> bool:
        return self._sources[name].is_package

    def get_source(self, name: str) -> str:
        return importlib.util.decode_source(self._sources[name].text)

    def exec_module(self, module: ModuleType) -> None:
        source = self._sources[module.__name__]
        self._loaded[module.__name__] = source, module
        exec(compile(source.text, source.file, "exec"), module.__dict__)  # noqa: S102  as every import does


_finder = _Finder()
