"""What may stand on the line of ``%%distribute``."""

from __future__ import annotations

import argparse
import shlex
from typing import NoReturn

from .errors import InvalidCell


class CellOptions(argparse.ArgumentParser):
    """What may stand on the line of the magic; raises `InvalidCell`."""

    def __init__(self) -> None:
        super().__init__(prog="%%distribute", add_help=False, allow_abbrev=False)
        self.add_argument("--tags", nargs="+", default=[], metavar="EXPR", help="tags a worker must have")
        self.add_argument("--out", nargs="+", default=None, metavar="NAME", help="bring back just these names")
        self.add_argument("--timeout", type=float, metavar="SECONDS", help="how long the cell may run")
        self.add_argument("--retries", type=int, default=0, metavar="N", help="further runs after it raised")
        self.add_argument("--dry-run", action="store_true", help="say what would travel; send nothing")

    def read(self, line: str) -> argparse.Namespace:
        """Return the options on *line*."""
        try:
            words = shlex.split(line)
        except ValueError as error:  # a quote that does not end
            self.error(str(error))
        options = self.parse_args(words)
        options.tags = " ".join(options.tags)
        if options.out is not None:
            options.out = [name for name in " ".join(options.out).replace(",", " ").split() if name]
        return options

    def error(self, message: str) -> NoReturn:
        """Refuse what was asked for."""
        raise InvalidCell(f"%%distribute: {message}", self.format_usage().strip())
