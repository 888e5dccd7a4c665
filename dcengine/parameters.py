"""What a workload can be asked: its parameters, told in words and checked, each value by itself."""

from __future__ import annotations

import enum
import inspect
import math
import os
from collections.abc import Callable, Iterable, Iterator
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast, get_args, get_origin, get_type_hints

import msgspec
from msgspec import inspect as kinds

from .errors import InvalidOption
from .plain import clean

LOCAL = "local"  #: in a field's `extra`: it is about the files of whoever asks, and so is no part of a form
NAME_LETTERS = 255  #: of a file, as file systems have it
SHOWN = 100  #: letters of a value in an error

LIMITS = (("gt", "above"), ("ge", "at least"), ("lt", "below"), ("le", "at most"), ("multiple_of", "a multiple of"))
ACCEPTED = "text, numbers, bools, a File, a Literal or Enum of texts, lists of these, each or None"


class File(msgspec.Struct, frozen=True):
    """A file among the parameters of a workload: its name, without folders, and its content."""

    name: str
    content: bytes

    def __post_init__(self) -> None:
        name, content = cast(object, self.name), cast(object, self.content)  # of whoever made it
        if not isinstance(name, str) or name in ("", ".", "..") or name != _file_name(name):
            expected = f"a name without folders, {NAME_LETTERS} letters at most"
            raise InvalidOption("the name of a file", shown(name), expected)
        if not isinstance(content, bytes):
            raise InvalidOption("the content of a file", shown(content), "bytes")

    def __repr__(self) -> str:
        return f"<file {self.name!r}: {len(self.content):,} bytes>"

    @classmethod
    def at(cls, path: str | os.PathLike[str]) -> File:
        """Return the file at *path*; raises `InvalidOption` if it cannot be read."""
        try:
            content = Path(path).read_bytes()
        except (OSError, ValueError) as error:  # a ValueError is about the path itself
            reason = getattr(error, "strerror", None) or str(error)
            raise InvalidOption("the file", f"{shown(os.fspath(path))} ({reason})", "one that can be read") from error
        return cls(_file_name(Path(path).name) or "file", content)

    @classmethod
    def sent(cls, name: str, content: bytes) -> File:
        """Return a file that somebody calls *name*, with the folders that they have it in, as they may."""
        own = _file_name(name.replace("\\", "/").rpartition("/")[2])
        return cls("file" if own in ("", ".", "..") else own, content)


class Field(NamedTuple):
    """One parameter of a workload."""

    name: str
    type: Any  #: without its annotations
    default: Any  #: `inspect.Parameter.empty` where it must be given
    description: str
    extra: dict[str, Any]  #: what its `msgspec.Meta` says more
    hint: Any  #: its type with its annotations

    @property
    def is_needed(self) -> bool:
        """Whether it must be given."""
        return self.default is inspect.Parameter.empty

    @property
    def is_local(self) -> bool:
        """Whether it is about the files of whoever asks."""
        return bool(self.extra.get(LOCAL))

    @property
    def is_many(self) -> bool:
        """Whether it is a list."""
        return any(isinstance(each, (kinds.ListType, kinds.VarTupleType)) for each in _parts(self.hint))

    @property
    def kind(self) -> Any:
        """What it is, or each of its list: str, int, float, bool, `File`, a Literal or an Enum; None for others."""
        found = [each for each in _parts(self.hint) if not isinstance(each, kinds.NoneType)]
        if len(found) == 1 and isinstance(found[0], (kinds.ListType, kinds.VarTupleType)):
            found = [_bare(found[0].item_type)]
        if len(found) == 1 and isinstance(found[0], kinds.LiteralType):
            return _literal(self.type)
        return _plain(found[0]) if len(found) == 1 else None

    @property
    def choices(self) -> tuple[str, ...]:
        """The texts that it can be, empty where it can be others."""
        kind = self.kind
        if get_origin(kind) is Literal:
            return get_args(kind)
        is_enum = isinstance(kind, type) and issubclass(kind, enum.Enum)
        return tuple(each.value for each in kind) if is_enum else ()

    @property
    def limits(self) -> str:
        """Between which numbers it is, or each of its list, in words; empty without."""
        parts: list[kinds.Type] = [_bare(getattr(part, "item_type", part)) for part in _parts(self.hint)]
        return ", ".join(limit for part in parts for limit in _limits(part))

    @property
    def told(self) -> str:
        """Its description, and its limits."""
        return f"{self.description} {self.limits[:1].upper()}{self.limits[1:]}.".removesuffix(" .")

    @property
    def expected(self) -> str:
        """What is expected of it, in words."""
        return _words(kinds.type_info(self.hint), ", ".join(map(repr, self.choices)))

    def taken(self, value: Any) -> Any:
        """Return *value* as the parameter has it: a `File` of a path, of bytes, or of something opened to be read.

        One value stands for a list of it. Raises `InvalidOption`.
        """
        try:
            many = _as_list(value) if self.is_many and value is not None else None
            simple = _simple(self.kind, value) if many is None else [_simple(self.kind, each) for each in many]
            return _checked(msgspec.convert(simple, self.hint), is_path=self.is_local)
        except InvalidOption as error:
            raise InvalidOption(self.name, error.value, error.expected) from error
        except (ValueError, ArithmeticError, RecursionError, OSError) as error:  # of msgspec, or of what is read
            raise InvalidOption(self.name, shown(value), self.expected) from error


class _Unfit(ValueError):
    """A value that its type allows, and no parameter has."""


def fields_of(parameters: type[msgspec.Struct]) -> list[Field]:
    """Return the fields of *parameters*, in order."""
    hints, bare = get_type_hints(parameters, include_extras=True), get_type_hints(parameters)
    return [_field(each, hints[each.name], bare[each.name]) for each in msgspec.structs.fields(parameters)]


def shown(value: object) -> str:
    """Return *value* as an error shows it: on one line, and no more than a person reads."""
    if isinstance(value, (str, bytes, bytearray)) and len(value) > SHOWN:
        return f"{clean(repr(value[:SHOWN]), SHOWN - 3)}... ({len(value):,} in all)"
    try:
        return clean(repr(value), SHOWN)
    except Exception:  # somebody else's __repr__
        return f"an object of {type(value).__name__}"


def _field(info: Any, hint: Any, bare: Any) -> Field:
    told: dict[str, Any] = {}
    extra: dict[str, Any] = {}
    kind = kinds.type_info(hint)
    if isinstance(kind, kinds.Metadata):
        told, extra = kind.extra_json_schema or {}, kind.extra or {}
    default = info.default_factory() if info.default_factory is not msgspec.NODEFAULT else info.default
    default = inspect.Parameter.empty if default is msgspec.NODEFAULT else default
    return Field(info.name, bare, default, told.get("description", ""), extra, hint)


# ---- kinds ---------------------------------------------------------------------------------


def _bare(kind: kinds.Type) -> kinds.Type:
    return _bare(kind.type) if isinstance(kind, kinds.Metadata) else kind


def _parts(hint: Any) -> Iterator[kinds.Type]:
    """Yield what *hint* allows: itself, or each part of a union."""
    kind = _bare(kinds.type_info(hint))
    yield from map(_bare, kind.types if isinstance(kind, kinds.UnionType) else (kind,))


def _plain(kind: kinds.Type) -> Any:
    simple = {kinds.StrType: str, kinds.IntType: int, kinds.FloatType: float, kinds.BoolType: bool}
    if isinstance(kind, kinds.StructType) and kind.cls is File:
        return File
    if isinstance(kind, kinds.EnumType) and all(isinstance(each.value, str) for each in kind.cls):
        return kind.cls
    return simple.get(type(kind))


def _literal(hint: Any) -> Any:
    """Return the Literal of texts within *hint*, None if it has others; msgspec would put them into another order."""
    if get_origin(hint) is Literal:
        return hint if all(isinstance(each, str) for each in get_args(hint)) else None
    return next(filter(None, map(_literal, get_args(hint))), None)


def _words(kind: kinds.Type, choices: str) -> str:
    """Return what *kind* allows, in words; *choices* are the texts among them."""
    kind = _bare(kind)
    if isinstance(kind, kinds.UnionType):
        parts = sorted(kind.types, key=lambda each: isinstance(each, kinds.NoneType))
        said = [_words(each, choices) for each in parts]
        return (", or " if any("," in each for each in said) else " or ").join(said)
    if isinstance(kind, (kinds.ListType, kinds.VarTupleType)):
        return f"a list{_length(kind, 'of them')}, each {_words(kind.item_type, choices)}"
    if isinstance(kind, (kinds.LiteralType, kinds.EnumType)):
        return f"one of {choices}"
    if isinstance(kind, kinds.StructType) and kind.cls is File:
        return "a file: its path, its content as bytes, or something opened in mode 'rb'"
    if isinstance(kind, kinds.StrType):
        return f"text{_length(kind, 'letters')}{f' that fits the pattern {kind.pattern}' if kind.pattern else ''}"
    names = {kinds.IntType: "a whole number", kinds.FloatType: "a number", kinds.BoolType: "True or False"}
    return ", ".join([names.get(type(kind), "None" if isinstance(kind, kinds.NoneType) else "something else"),
                      *_limits(kind)])  # fmt: skip


def _limits(kind: Any) -> Iterator[str]:
    for name, word in LIMITS:
        if (limit := getattr(kind, name, None)) is not None:
            yield f"{word} {limit:,}" if isinstance(limit, int) else f"{word} {limit:,.15g}"


def _length(kind: Any, what: str) -> str:
    least, most = kind.min_length, kind.max_length
    said = [f"at least {least:,}" if least else "", f"at most {most:,}" if most is not None else ""]
    return f" of {' and '.join(filter(None, said))} {what}" if any(said) else ""


# ---- values --------------------------------------------------------------------------------


def _as_list(value: Any) -> Iterable[Any]:
    """Return the items of *value*; one value is its own only item."""
    whole = (str, bytes, bytearray, memoryview, dict, os.PathLike, File)
    return [value] if isinstance(value, whole) or hasattr(value, "read") or not hasattr(value, "__iter__") else value


def _simple(kind: Any, value: Any) -> Any:
    """Return *value*, of whatever library, as the plain type that *kind* is."""
    if kind is File:
        return _file(value)
    if kind is str and isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, (bool, enum.Enum)):
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, Integral):
        return int(value)
    return float(value) if isinstance(value, Real) else value


def _file(value: Any) -> Any:
    if isinstance(value, (str, os.PathLike)):
        return File.at(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return File("file", bytes(value))
    read: Callable[[], Any] | None = getattr(value, "read", None)
    if read is None:
        return value
    content = read()
    if not isinstance(content, bytes):
        raise _Unfit("not opened in binary mode")
    name = getattr(value, "name", None)
    return File(_file_name(Path(name).name if isinstance(name, str) else "") or "file", content)


def _file_name(name: str) -> str:
    """Return *name* without what no name of a file should have."""
    return "".join("_" if each in "/\\" or not each.isprintable() else each for each in name[:NAME_LETTERS])


def _checked(value: Any, *, is_path: bool) -> Any:
    """Return *value*; raises `_Unfit` for what only makes trouble later: no number, half a character."""
    for each in value if isinstance(value, (list, tuple)) else (value,):
        if isinstance(each, float) and not math.isfinite(each):
            raise _Unfit("not finite")
        if isinstance(each, str) and ("\0" in each or not _is_text(each, is_path=is_path)):
            raise _Unfit("no text")
    return value


def _is_text(text: str, *, is_path: bool) -> bool:
    try:
        os.fsencode(text) if is_path else text.encode()  # names of files may be no UTF-8
    except UnicodeEncodeError:
        return False
    return True
