"""Numbers over time, drawn: bars on top of each other as SVG, and a line of letters. No input, no output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from dcengine.plain import clean

from . import markup

WIDTH, HEIGHT = 600, 60  #: of a drawing, in its own units
COLOURS = ("#4c8dca", "#d98b3a", "#4fa36f", "#b56bb3", "#c25b5b", "#8a8f98")  #: on light and dark grounds
LETTERS = " ▁▂▃▄▅▆▇█"
COLUMNS = 40  #: of a line of letters


def bars(series: Mapping[str, Sequence[int]], title: str) -> str:
    """Return *series*, all of one length, as columns on top of each other, and what colour each has."""
    sums = [sum(column) for column in zip(*series.values(), strict=True)]
    highest, width = max([1, *sums]), WIDTH / max(1, len(sums))
    below = [0.0] * len(sums)
    drawn = []
    for place, numbers in enumerate(series.values()):
        colour = COLOURS[place % len(COLOURS)]
        for column, number in enumerate(numbers):
            height = HEIGHT * number / highest
            if height > 0:
                below[column] += height
                drawn.append(_rect(column * width, HEIGHT - below[column], max(0.5, width - 1), height, colour))
    ground = _rect(0, HEIGHT - 0.5, WIDTH, 0.5, markup.GREY)
    picture = (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none" role="img" aria-label="{escape(title)}" '
        f'style="display:block;width:100%;height:{HEIGHT}px">{ground}{"".join(drawn)}</svg>'
    )
    return picture + (_legend(list(series)) if len(series) > 1 else "")


def _rect(x: float, y: float, width: float, height: float, colour: str) -> str:
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{colour}"></rect>'


def _legend(names: list[str]) -> str:
    keys = [
        f'<span style="white-space:nowrap;margin-right:14px"><span style="display:inline-block;width:9px;height:9px;'
        f'margin-right:5px;background:{COLOURS[place % len(COLOURS)]}"></span>{markup.outside(name, 40)}</span>'
        for place, name in enumerate(names)
    ]
    return markup.row("".join(keys), f"font-size:12px;{markup.MUTED}")


def line(numbers: Sequence[int], columns: int = COLUMNS) -> str:
    """Return *numbers* as letters of that height, so many together that there are *columns* of them at most."""
    together = max(1, -(-len(numbers) // columns))
    sums = [sum(numbers[start : start + together]) for start in range(0, len(numbers), together)]
    highest = max([1, *sums])
    return "".join(LETTERS[-(-number * (len(LETTERS) - 1) // highest)] for number in sums)


def title_of(series: Mapping[str, Sequence[int]], unit: str) -> str:
    """Return in words what a drawing of *series* shows; *unit* is what one column stands for."""
    sums = [sum(column) for column in zip(*series.values(), strict=True)]
    return f"tasks done in the last hour: {sum(sums):,}, at most {max(sums, default=0):,} in {clean(unit)}"
