"""The stages of a project as a TOML file says them, or a list of names. Nothing is sent from here."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from operator import attrgetter
from pathlib import Path
from string import ascii_lowercase
from typing import Any, get_args

import msgspec

from .calls import submitter
from .declaring import READERS, stage_spec, with_function
from .errors import InvalidOption
from .jobs import Shape, StageKind, check_name, check_shapes
from .options import versions_of
from .verbs import ProjectSpec, StageSpec

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PROJECT_KEYS = ("name", "stage", "protocol", "open")
STAGE_KEYS = ("name", "function", "lease", "shape", "after", *READERS)
OLD_CLIENTS_VOTES = 5  #: what the trackers that lease stages come from ask for


def read(path: str | Path) -> ProjectSpec:
    """Return the project that the TOML file *path* describes; raises `InvalidOption` that names the file and place.

    Functions are imported, from the file's own folder and the current one too.
    """
    content = _parsed(Path(path))
    name = content.get("name")
    check_name(f"name in {path}", name)
    tables = content.get("stage")
    if not isinstance(tables, list) or not tables or not all(isinstance(table, dict) for table in tables):
        raise InvalidOption(f"stage in {path}", "missing or no list of tables", "one [[stage]] or more")
    stages = [_Table(str(path), place, table) for place, table in enumerate(tables, 1)]
    ordered = in_order([(stage.name, stage.after) for stage in stages], str(path))
    by_name = {stage.name: stage for stage in stages}
    check_shapes([(each, by_name[each].shape) for each in ordered])
    sys.path[:0] = [str(Path(path).resolve().parent), str(Path.cwd())]
    try:
        specs = [by_name[each].spec() for each in ordered]
    finally:
        del sys.path[:2]
    protocol, is_open = content.get("protocol", ""), content.get("open", False)
    if not isinstance(protocol, str):
        raise InvalidOption(f"protocol in {path}", repr(protocol)[:100], 'a name, such as "distcompute"')
    if not isinstance(is_open, bool):
        raise InvalidOption(f"open in {path}", repr(is_open)[:100], "true or false")
    return ProjectSpec(name=str(name), stages=specs, submitter=submitter(), protocol=protocol, is_open=is_open)


def leased(
    name: str,
    titles: Sequence[str],
    *,
    votes: int = OLD_CLIENTS_VOTES,
    protocol: str = "",
    is_open: bool = False,
) -> ProjectSpec:
    """Return a project of lease stages a, b, c ... with these *titles*."""
    check_name("the project's name", name)
    if not titles or not all(title.strip() for title in titles):
        raise InvalidOption("the stages", repr(",".join(titles))[:100], "names with commas between, such as CPU,GPU")
    if len(titles) > len(ascii_lowercase):
        expected = f"{len(ascii_lowercase)} at most, one for each letter; a TOML file takes more"
        raise InvalidOption("the stages", f"{len(titles)} of them", expected)
    options = [{"title": title.strip(), "votes": votes} for title in titles]
    stages = [stage_spec(letter, "lease", "map", own) for letter, own in zip(ascii_lowercase, options, strict=False)]
    return ProjectSpec(name=name, stages=stages, submitter=submitter(), protocol=protocol, is_open=is_open)


def _parsed(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidOption(str(path), f"read ({error})", "a TOML file with a name and a [[stage]]") from error
    _check_keys(content, PROJECT_KEYS, str(path))
    return content


def _check_keys(table: Mapping[str, object], known: Sequence[str], where: str) -> None:
    for key in table:
        if key not in known:
            nearest = get_close_matches(key, known, 1) or known
            raise InvalidOption(f"a key of {where}", repr(key)[:100], " or ".join(nearest))


class _Table:
    """One [[stage]] of a file."""

    def __init__(self, path: str, place: int, table: Mapping[str, Any]) -> None:
        self.path = path
        self.table = table
        self.where = f"stage {place} in {path}"
        _check_keys(table, STAGE_KEYS, self.where)
        check_name(f"name of {self.where}", table.get("name"))
        self.name: str = table["name"]
        self.where = f"stage {self.name!r} in {path}"
        self.after: str | None = self._value("after", str | None, None, "the name of another stage")
        self.shape: Shape = self._value("shape", Shape, "map", " or ".join(get_args(Shape)))
        self.kind: StageKind = "lease" if self._value("lease", bool, False, "true or false") else "function"
        if self.kind == "lease" and "function" in table:
            raise InvalidOption(f"the function of {self.where}", "given", "none: outside workers do a lease stage")
        if self.kind == "function" and "function" not in table:
            raise InvalidOption(f"the function of {self.where}", "missing", "'module:name', or lease = true")

    def _value(self, key: str, type: Any, default: Any, expected: str) -> Any:
        try:
            return msgspec.convert(self.table.get(key, default), type)
        except msgspec.ValidationError:
            raise InvalidOption(f"{key} of {self.where}", repr(self.table[key])[:100], expected) from None

    def spec(self) -> StageSpec:
        """Return the stage, its function imported and packed."""
        if "on_failed_part" in self.table and self.shape != "gather":
            raise InvalidOption(f"on_failed_part of {self.where}", "given", "none: it is for a gather")
        spec = stage_spec(self.name, self.kind, self.shape, {k: v for k, v in self.table.items() if k in READERS})
        if self.kind == "lease":
            return spec
        return with_function(spec, imported(self.table["function"], self.where), versions_of(self.table))


def imported(address: object, where: str) -> Callable[[Any], Any]:
    """Return the function at *address*, ``module:name``; raises `InvalidOption` that says what hinders it *where*."""
    what, shown = f"the function of {where}", repr(address)[:100]
    module, _, name = str(address).partition(":")
    if not isinstance(address, str) or not module or not name:
        raise InvalidOption(what, shown, "'module:name'")
    try:
        found = attrgetter(name)(importlib.import_module(module))
    except Exception as error:  # the module is user code
        raise InvalidOption(what, f"{shown} ({type(error).__name__}: {error})", "one that can be imported") from error
    if not callable(found):
        raise InvalidOption(what, f"{shown} (a {type(found).__name__})", "a function of one value")
    function: Callable[[Any], Any] = found
    return function


# ---- which comes after which ---------------------------------------------------------------


def in_order(stages: Sequence[tuple[str, str | None]], where: str) -> list[str]:
    """Return the names of *stages*, each given with the one it comes after, from the first to the last.

    The first without such a word begins; any other without comes after the one before it in the list.
    Raises `InvalidOption` for names met twice, unknown ones, circles, and two stages after one.
    """
    names = [name for name, _ in stages]
    for name in names:
        if names.count(name) > 1:
            raise InvalidOption(f"a stage of {where}", f"called {name!r} twice", "names that differ")
    before = _befores(stages, where)
    after: dict[str, str] = {}
    for name, earlier in before.items():
        if earlier in after:
            both = f"followed by {after[earlier]!r} and {name!r}"
            raise InvalidOption(f"stage {earlier!r} of {where}", both, "one stage after it: a project is a row")
        after[earlier] = name
    ordered = [name for name in names if name not in before]  # the first one
    while ordered and ordered[-1] in after:
        ordered.append(after[ordered[-1]])
    if len(ordered) < len(names):
        circle = _circle(before, next(name for name in names if name not in ordered))
        raise InvalidOption(f"the stages of {where}", f"a circle: {circle}", "a row with a first and a last one")
    return ordered


def _befores(stages: Sequence[tuple[str, str | None]], where: str) -> dict[str, str]:
    """Return for each stage but the first which one it comes after."""
    names = [name for name, _ in stages]
    before: dict[str, str] = {}
    has_first = False
    for place, (name, earlier) in enumerate(stages):
        if earlier is None and has_first:
            before[name] = names[place - 1]
        elif earlier is None:
            has_first = True
        elif earlier in names:
            before[name] = earlier
        else:
            known = get_close_matches(earlier, names, 1) or names
            raise InvalidOption(f"after of stage {name!r} in {where}", repr(earlier)[:100], " or ".join(known))
    return before


def _circle(before: Mapping[str, str], start: str) -> str:
    """Return the circle that *start* is in, as a sentence says it."""
    circle = [start]
    while before[circle[-1]] != start:
        circle.append(before[circle[-1]])
    return " after ".join(map(repr, [*circle, start]))
