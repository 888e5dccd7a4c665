"""Parts of what is shown as HTML: frames, bars, tables, texts from outside. No input, no output.

Inline styles only, so that a saved notebook, an exported page and a widget look alike; colours are those of the
theme around it (JupyterLab's, VS Code's), the rest is mixed from the colour of its text. Text from outside comes in
through `outside` alone.
"""

from __future__ import annotations

import math
from base64 import b64encode
from collections.abc import Iterable
from html import escape

from dcengine.plain import clean

from .figures import Figure

GREEN = "var(--jp-success-color1, var(--vscode-charts-green, #3a9d5d))"
BLUE = "var(--jp-brand-color1, var(--vscode-charts-blue, #3b82c4))"
RED = "var(--jp-error-color1, var(--vscode-charts-red, #d64545))"
RED_WORDS = f"color:color-mix(in srgb, {RED} 75%, currentColor)"  #: legible on dark grounds too
COLOURS = {"succeeded": GREEN, "running": BLUE, "failed": RED, "cancelled": "currentColor"}
GREY = "rgba(128,128,128,.6)"
DOTS = {
    "ready": GREEN, "unfit": RED, "succeeded": GREEN, "failed": RED,
    **dict.fromkeys(["cancelled", "queued", "waiting", "blocked"], GREY),
}  # fmt: skip
FADED = {"running": 0.55, "cancelled": 0.35}  #: parts of a bar that are not the last word

FRAME = (
    "max-width:44em;padding:4px 0 6px;line-height:1.5;color:inherit;"
    "font:13px/1.5 var(--jp-ui-font-family, var(--vscode-font-family, system-ui, sans-serif));"
    "font-variant-numeric:tabular-nums"
)
CODE = (
    "font-family:var(--jp-code-font-family, var(--vscode-editor-font-family, ui-monospace, monospace));font-size:12px"
)
LINE = "var(--jp-border-color2, var(--vscode-widget-border, rgba(128,128,128,.35)))"
MUTED = "opacity:.65"
ROW = '<tr style="background:none">'

Part = tuple[str, float]  #: what of a bar, and how much of it, 0 to 1


def plain_html(text: str) -> str:
    """Return *text* as it would stand in a terminal."""
    return f'<pre style="{CODE};margin:0">{escape(text)}</pre>'


def with_note(html: str, remark: str) -> str:
    """Return *html* with a remark below it."""
    return f'<div style="{FRAME}">{html}{note(remark)}</div>'


def outside(text: str, limit: int) -> str:
    """Return *text* from outside as HTML that says it and does nothing else; it keeps its direction to itself."""
    return f"<bdi>{escape(clean(text, limit))}</bdi>"


def code(text: str, limit: int) -> str:
    return f'<span style="{CODE};overflow-wrap:anywhere">{outside(text, limit)}</span>'


def frame(*rows: str) -> str:
    return f'<div style="{FRAME}">{"".join(rows)}</div>'


def row(html: str, style: str = "") -> str:
    return f'<div style="{style}">{html}</div>'


def head(name: str, what: str) -> str:
    return row(
        f'<b style="font-weight:600;overflow-wrap:anywhere">{outside(name, 80)}</b>'
        f'<span style="{MUTED};white-space:nowrap">{outside(what, 80)}</span>',
        "display:flex;justify-content:space-between;gap:12px;align-items:baseline",
    )


def note(text: str) -> str:
    return row(outside(text, 400), MUTED)


def more(count: int, what: str) -> str:
    return note(f"and {count:,} more {what}") if count > 0 else ""


def said(figures: Iterable[Figure]) -> str:
    words = [
        f'<span style="{RED_WORDS}">{escape(figure.text)}</span>' if figure.kind == "failed" else
        f"<bdi>{escape(figure.text)}</bdi>"
        for figure in figures
    ]  # fmt: skip
    return row(", ".join(words), "opacity:.85")


def bar(parts: Iterable[Part]) -> str:
    pieces, taken = [], 0.0
    for kind, share in parts:
        size = min(max(share, 0.0), 1.0 - taken) if math.isfinite(share) else 0.0
        taken += size
        if size > 0:
            pieces.append(
                f'<div style="width:{100 * size:.2f}%;min-width:2px;background:{COLOURS[kind]};'
                f'opacity:{FADED.get(kind, 1)}"></div>'
            )
    track = '<div style="position:absolute;inset:0;background:currentColor;opacity:.13"></div>'
    return (
        '<div role="progressbar" aria-label="how far" aria-valuemin="0" aria-valuemax="100" '
        f'aria-valuenow="{100 * taken:.0f}" '
        'style="position:relative;height:6px;border-radius:3px;overflow:hidden;margin:4px 0">'
        f'{track}<div style="position:relative;display:flex;height:100%">{"".join(pieces)}</div></div>'
    )


def header(*columns: tuple[str, str]) -> str:
    style = f"font-weight:400;{MUTED};padding:2px 14px 2px 0;background:none"
    return "".join(f'<th scope="col" style="text-align:{side};{style}">{name}</th>' for name, side in columns)


def table(head: str, body: str) -> str:
    # Notebooks give tables stripes and columns of one width.
    style = "border-collapse:collapse;table-layout:auto;width:100%;margin:2px 0;font-size:13px"
    style += ";color:inherit;background:none"
    return f'<table style="{style}"><thead><tr style="background:none">{head}</tr></thead><tbody>{body}</tbody></table>'


def cell(html: str, style: str) -> str:
    return (
        f'<td style="padding:3px 14px 3px 0;border-top:1px solid {LINE};vertical-align:top;text-align:left;'
        f'line-height:1.5;background:none;{style}">{html}</td>'
    )


def wide_cell(html: str, style: str) -> str:
    return f'<td colspan="5" style="padding:0 14px 3px 0;text-align:left;background:none;{style}">{html}</td>'


def section(title: str) -> str:
    """Return the heading of what follows; *title* is ours."""
    return row(f"<b>{title}</b>", "margin-top:6px;font-weight:600")


def picture(media: str, content: bytes, said: str) -> str:
    """Return a picture, whatever is in it; *said* is what stands for it."""
    source = f"data:{escape(media)};base64,{b64encode(content).decode()}"
    style = "display:block;max-width:100%;max-height:240px"
    return f'<img src="{source}" alt="{escape(clean(said, 200))}" style="{style}">'


def fold(title: str, html: str, *, is_open: bool = False) -> str:
    """Return *html* below a title, which opens and closes it; *title* is ours."""
    return f'<details{" open" if is_open else ""}><summary style="cursor:pointer">{title}</summary>{html}</details>'


def dot(state: str) -> str:
    colour = DOTS.get(state, BLUE)
    style = f"display:inline-block;width:8px;height:8px;border-radius:4px;margin-right:6px;background:{colour}"
    return f'<span style="{style}"></span>'
