"""Answers that leave nothing behind where their reader hangs up in the middle.

What ends a connection is raised by aiohttp from a future, and a frame of the traceback refers to that future: a circle,
which keeps the whole body until somebody looks for garbage. Without the traceback there is none.
"""

from __future__ import annotations

from typing import Any

from aiohttp import web


class Answer(web.Response):
    """An answer that is there as a whole."""

    async def write_eof(self, data: bytes = b"") -> None:
        """Send it; raises `ConnectionError` where nobody takes it."""
        try:
            await super().write_eof(data)
        except ConnectionError as gone:
            raise gone.with_traceback(None) from None


class StreamedAnswer(web.StreamResponse):
    """An answer that is sent piece by piece."""

    async def write(self, data: Any) -> None:
        """Send a piece; raises `ConnectionError` where nobody takes it."""
        try:
            await super().write(data)
        except ConnectionError as gone:
            raise gone.with_traceback(None) from None

    async def write_eof(self, data: bytes = b"") -> None:
        """Send the end; raises `ConnectionError` where nobody takes it."""
        try:
            await super().write_eof(data)
        except ConnectionError as gone:
            raise gone.with_traceback(None) from None
