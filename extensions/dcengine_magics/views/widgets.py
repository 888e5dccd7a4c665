"""Widgets as views use them, and what keeps them answering."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ipywidgets

from dcengine.plain import clean


def button(label: str, *, tooltip: str = "", style: str = "") -> Any:
    """Return a button as wide as its *label*."""
    return ipywidgets.Button(
        description=clean(label, 60), tooltip=clean(tooltip or label, 200), button_style=style,
        layout=ipywidgets.Layout(width="auto", height="26px", margin="0 4px 4px 0", align_self="flex-start"),
    )  # fmt: skip


def html_of(html: str) -> Any:
    """Return a widget that shows *html*, which is ours."""
    return ipywidgets.HTML(html, layout=ipywidgets.Layout(margin="0"))


def line_of(children: Sequence[Any]) -> Any:
    """Return *children* beside each other, on as many lines as they need."""
    layout = ipywidgets.Layout(flex_flow="row wrap", align_items="center")
    return ipywidgets.HBox(list(children), layout=layout)


def close(*widgets: Any) -> None:
    """Let go of *widgets* with all that belongs to them."""
    for widget in widgets:
        for part in (widget, widget.layout, getattr(widget, "style", None)):
            if part is not None:
                part.close()


def hear_anywhere(*widgets: Any) -> None:
    """Have clicks on *widgets* answered by the subshell they are sent to, while the main shell runs a cell.

    ipykernel 7.4 sends whatever a widget hears to the shell that spoke through it last, which may be busy for hours.
    """
    for widget in widgets:
        if widget.comm is not None:
            vars(widget.comm).pop("_reply_subshell_id", None)
