"""What a remote shell shows, as live messages of the job that runs its cell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from IPython.core.displayhook import DisplayHook
from IPython.core.displaypub import DisplayPublisher

from dcengine.errors import PayloadTooLarge
from dcengine.runner import displays, live


def show(kind: str, content: Mapping[str, Any] | msgspec.Struct) -> None:
    """Say *content* in a live message of *kind*, after all text printed before."""
    channel = live.current()
    if channel is None:
        return
    try:
        displays.show(channel, kind, content)
    except PayloadTooLarge as error:
        raise error.with_traceback(None) from None


class LivePublisher(DisplayPublisher):
    """Publishes displays of a remote cell."""

    def publish(
        self,
        data: Mapping[str, Any],
        metadata: Mapping[str, Any] | None = None,
        *_: object,
        transient: Mapping[str, Any] | None = None,
        update: bool = False,
        **__: object,
    ) -> None:
        """Send *data* to the notebook; with *update*, to where the same display id was shown before."""
        content = {"data": data, "metadata": metadata or {}, "transient": transient or {}}
        show("update" if update else "display", content)

    def clear_output(self, wait: bool = False) -> None:
        """Clear the cell in the notebook; with *wait*, when the next output comes."""
        show("clear", {"wait": wait})


class LiveDisplayHook(DisplayHook):
    """Shows the value of a remote cell's last expression."""

    source = ""  #: of the cell that runs
    is_of_item = False  #: it runs once for each of many items, whose values come back as a list

    def quiet(self) -> bool:
        """Tell whether the cell ends with a semicolon."""
        return bool(self.semicolon_at_end_of_expression(self.source))

    def write_output_prompt(self) -> None:
        """Leave the prompt to the notebook."""

    def write_format_data(self, format_dict: Mapping[str, Any], md_dict: Mapping[str, Any] | None = None) -> None:
        """Send the value as it looks; that of an item only if it is more than text."""
        if self.is_of_item and format_dict.keys() <= {"text/plain"}:
            return
        show("result", {"data": format_dict, "metadata": md_dict or {}})

    def log_output(self, format_dict: object) -> None:
        """Keep no log."""

    def finish_displayhook(self) -> None:
        """Print nothing after the value."""
        self._is_active = False
