"""The base of all errors."""

from __future__ import annotations

from typing import Any


class DcengineError(Exception):
    """The base of all errors raised by dcengine."""

    def facts(self) -> list[Any]:
        """Return the arguments that rebuild this error elsewhere."""
        return list(self.args)
