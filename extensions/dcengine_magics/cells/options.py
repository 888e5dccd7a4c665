"""What may stand on the lines of ``%%distribute`` and ``%distribute on``."""

from __future__ import annotations

import argparse
import ast
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from dcengine.tags import quantity

from .errors import InvalidCell

EACH = re.compile(r"(?:^|(?<=\s))--each(?:=|\s+|$)")
OPTION = re.compile(r"\s--[a-z]")  #: where the expression of ``--each`` may end
CONTRADICTIONS = {
    ("background", "dry_run"): "a dry run sends nothing that could go on in the background",
    ("stage", "background"): "a project goes on by itself; its view shows how far it is",
    ("stage", "out"): "a stage hands on the value of its last line, and no names",
    ("stage", "session"): "the tasks of a stage run wherever there is room",
    ("each", "session"): "the items run on many workers, a session lives on one",
}  #: pairs of options, and why they do not go together


@dataclass(frozen=True)
class Each:
    """What ``--each`` asks for: the body once for each item."""

    target: str  #: what an item is bound to, such as ``x`` or ``a, b``
    expression: str  #: what gives the items

    def __str__(self) -> str:
        return f"{self.target} in {self.expression}"


class Options(argparse.ArgumentParser):
    """What may be asked of every remote cell; raises `InvalidCell`."""

    def __init__(self, name: str) -> None:
        super().__init__(prog=name, add_help=False, allow_abbrev=False)
        self.add_argument("--tags", nargs="+", default=[], metavar="EXPR", help="tags a worker must have")
        self.add_argument("--devices", nargs="+", default=[], metavar="KIND=N", help="devices of the cell's own")
        self.add_argument("--timeout", type=float, metavar="SECONDS", help="how long the cell may run")
        self.add_argument("--retries", type=int, default=0, metavar="N", help="further runs after it raised")
        self.add_argument("--session", metavar="NAME", help="run where the names of earlier cells are still there")
        self.add_argument("--keep-above", type=_bytes, default=256 << 20, metavar="SIZE", help="larger values stay")

    def _words(self, line: str) -> list[str]:
        try:
            return shlex.split(line)
        except ValueError as error:  # a quote that does not end
            self.error(str(error))

    def _tidied(self, options: argparse.Namespace) -> argparse.Namespace:
        """Return *options* with what several words said joined."""
        options.tags = " ".join(options.tags)
        options.devices = dict(self._device(word) for word in _listed(options.devices))
        if options.session == "":
            self.error("--session takes a name, such as training")
        return options

    def _device(self, word: str) -> tuple[str, int]:
        kind, _, count = word.partition("=")
        if not kind or not count.isascii() or not count.isdigit():
            self.error(f"--devices takes kinds with numbers, such as gpu=1, not {word!r}")
        return kind, int(count)

    def error(self, message: str) -> NoReturn:
        """Refuse what was asked for."""
        raise InvalidCell(f"{self.prog}: {message}", self.format_usage().strip())


class CellOptions(Options):
    """What may stand on the line of the cell magic."""

    def __init__(self) -> None:
        super().__init__("%%distribute")
        self.add_argument("--each", metavar="X in XS", help="run the body once for each item")
        self.add_argument("--out", nargs="+", default=None, metavar="NAME", help="bring back just these names")
        self.add_argument("--background", action="store_true", help="give a handle at once")
        self.add_argument("--stage", metavar="PROJECT.STAGE", help="make the body a stage of a project")
        self.add_argument("--dry-run", action="store_true", help="say what would travel; send nothing")
        #: The cell had no line of ours: ``%distribute on`` sent it, and says how.
        self.add_argument("--default", action="store_true", help=argparse.SUPPRESS)

    def read(self, line: str, expand: Callable[[str], str] = str) -> argparse.Namespace:
        """Return the options on *line*; *expand* replaces variables in all but the expression of ``--each``."""
        each, rest = self._each_on(line)
        words = self._words(expand(rest))
        if any(word == "--each" for word in words):
            self.error("--each stands twice")
        options = self._tidied(self.parse_args(words))
        options.each = each
        if options.out is not None:
            options.out = _listed(options.out)
        if options.stage is not None:
            options.stage = self._stage(options.stage)
        self._check(options)
        return options

    def _each_on(self, line: str) -> tuple[Each | None, str]:
        """Return what ``--each`` asks for, and *line* without it; it is Python, so it is read before the rest is."""
        found = EACH.search(line)
        if found is None:
            return None, line
        text = line[found.end() :]
        ends = [*(option.start() for option in OPTION.finditer(text)), len(text)]
        read = ((_read_each(_unquoted(text[:end].strip())), end) for end in ends)
        each, end = next((one for one in read if one[0] is not None), (None, 0))
        if each is None:
            self.error(f"--each takes TARGET in EXPRESSION, such as --each x in xs, not {text.strip()!r}")
        return each, f"{line[: found.start()]} {text[end:]}"

    def _stage(self, text: str) -> tuple[str, str]:
        project, _, stage = text.rpartition(".")
        if not project or not stage:
            self.error(f"--stage takes PROJECT.STAGE, such as photos.resize, not {text!r}")
        return project, stage

    def _check(self, options: argparse.Namespace) -> None:
        for (one, other), reason in CONTRADICTIONS.items():
            if getattr(options, one, None) not in (None, False) and getattr(options, other, None) not in (None, False):
                self.error(f"{_shown(one)} does not go with {_shown(other)}: {reason}")


class DefaultOptions(Options):
    """What may stand behind ``%distribute on``."""

    def __init__(self) -> None:
        super().__init__("%distribute on")
        self.add_argument("expression", nargs="*", metavar="EXPR", help="tags a worker must have")

    def read(self, line: str) -> argparse.Namespace:
        """Return the options on *line*, the expression among the tags."""
        options = self.parse_intermixed_args(self._words(line))
        if options.tags and options.expression:
            self.error("tags stand there twice: as EXPR and as --tags")
        options.tags = options.tags or options.expression
        return self._tidied(options)


def _bytes(text: str) -> int:
    number = quantity(text)
    if number is None or number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no size such as 64MiB")
    return int(number)


def _listed(words: list[str]) -> list[str]:
    return [name for name in " ".join(words).replace(",", " ").split() if name]


def _shown(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _unquoted(text: str) -> str:
    """Return *text* without the quotes around all of it that a shell would have wanted."""
    if text[:1] not in ("'", '"'):
        return text
    try:
        words = shlex.split(text)
    except ValueError:
        return text
    return words[0] if len(words) == 1 else text


def _read_each(text: str) -> Each | None:
    """Return ``x in xs`` taken apart, None if *text* is no such thing (or goes on)."""
    try:
        (loop,) = ast.parse(f"for {text}: pass").body
    except (SyntaxError, ValueError):
        return None
    if not isinstance(loop, ast.For) or not isinstance(loop.body[0], ast.Pass) or not _binds_names_only(loop.target):
        return None
    return Each(ast.unparse(loop.target).removeprefix("(").removesuffix(")"), ast.unparse(loop.iter))


def _binds_names_only(target: ast.expr) -> bool:
    if isinstance(target, (ast.Tuple, ast.List)):
        return all(map(_binds_names_only, target.elts))
    return isinstance(target.value if isinstance(target, ast.Starred) else target, ast.Name)
