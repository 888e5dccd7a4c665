"""A project as a board, as HTML and as text: its stages as a funnel, its pace, what comes out of it, what fails."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from dcengine.plain import clean, table
from dcengine.verbs import FailureGroup, ProjectStatus, StageOutput, StageStatus, Throughput

from . import figures, markup, plots, wording
from .markup import Part
from .past_forms import PICTURE_LIMIT, Value

GROUPS = 5  #: of failures that are shown
COUNTED = (("queued", ("queued", "waiting", "blocked")), ("running", ("leased",)), ("done", ("succeeded",)),
           ("failed", ("failed",)))  # fmt: skip
#: what the funnel counts, and the states of tasks that it means
SINCE = "half a minute"


class Sample(NamedTuple):
    """What one of the newest jobs came to at a stage."""

    output: StageOutput
    value: Value


class Board(NamedTuple):
    """A project, and what is asked for less often."""

    status: ProjectStatus
    throughput: Throughput | None = None
    samples: Sequence[Sample] = ()
    groups: Sequence[FailureGroup] = ()

    @property
    def failed_elsewhere(self) -> int:
        """How many failed jobs are in none of the groups that are shown."""
        return max(0, self.status.failed - sum(group.count for group in self.groups[:GROUPS])) if self.groups else 0


# ---- as HTML -------------------------------------------------------------------------------


def board_html(board: Board) -> str:
    """Return what changes most: how far the project and its stages are, and how fast they go."""
    status = board.status
    return markup.frame(
        markup.head(status.name, f"project, {state_of(status)}"),
        markup.bar(parts_of(status)),
        markup.said(figures.of_project(status)),
        _stages_html(status.stages),
        "" if status.warning is None else markup.note(status.warning),
    )


def _stages_html(stages: Sequence[StageStatus]) -> str:
    if not stages:
        return ""
    numbers = [(name, "right") for name, _ in COUNTED]
    rows = "".join(map(_stage_row, stages, figures.wholes(stages)))
    return markup.table(markup.header(("stage", "left"), ("how far", "left"), *numbers), rows)


def _stage_row(stage: StageStatus, whole: int) -> str:
    kinds = {"succeeded": "succeeded", "failed": "failed", "cancelled": "cancelled", "leased": "running"}
    parts = [(kind, stage.counts.get(state, 0) / whole) for state, kind in kinds.items()]
    aside = ", ".join(figure.text for figure in figures.aside_of_stage(stage))
    numbers = [
        markup.cell(f"{n:,}", f"text-align:right;{markup.RED_WORDS if name == 'failed' and n else ''}")
        for name, n in counts_of(stage)
    ]
    name = markup.code(stage.label, 40) + (markup.note(aside) if aside else "")
    return (
        markup.ROW + markup.cell(name, "overflow-wrap:anywhere;max-width:14em")
        + markup.cell(markup.bar(parts), "min-width:9em;width:50%;padding-top:6px") + "".join(numbers) + "</tr>"
    )  # fmt: skip


def more_html(board: Board) -> str:
    """Return what changes more seldom: throughput, newest outputs, failures."""
    return markup.frame(_plot_html(board), _samples_html(board.samples), _groups_html(board))


def _plot_html(board: Board) -> str:
    series = _series(board)
    if not series:
        return ""
    title = plots.title_of(series, SINCE)
    return markup.section("Throughput") + plots.bars(series, title) + markup.note(title)


def _samples_html(samples: Sequence[Sample]) -> str:
    if not samples:
        return ""
    rows = "".join(
        markup.ROW
        + markup.cell(f"{each.output.number:,}", f"text-align:right;{markup.MUTED}")
        + markup.cell(markup.code(each.output.stage, 40), "white-space:nowrap")
        + markup.cell(markup.code(each.value.text, 200), "width:100%")
        + "</tr>"
        for each in samples
    )
    shown = last_picture(samples)
    picture = "" if shown is None else _picture_html(shown)
    head = markup.header(("job", "right"), ("stage", "left"), ("output", "left"))
    return markup.section("Newest outputs") + picture + markup.table(head, rows)


def _picture_html(sample: Sample) -> str:
    assert sample.value.picture is not None
    media, content = sample.value.picture
    return markup.picture(media, content, f"what job {sample.output.number} came to: {sample.value.text}")


def _groups_html(board: Board) -> str:
    rows = [
        markup.row(
            f'<span style="{markup.RED_WORDS}">{group.count:,} × </span>{markup.code(reason_of(group), 160)} '
            f'<span style="{markup.MUTED}">{escape(where(group))}</span>'
        )
        for group in board.groups[:GROUPS]
    ]
    if not rows:
        return ""
    rest = board.failed_elsewhere
    return markup.section("Failures") + "".join(rows) + (markup.note(f"and {rest:,} more") if rest else "")


# ---- as text -------------------------------------------------------------------------------


def board_text(board: Board) -> str:
    """Return all of it as lines of text."""
    status = board.status
    lines = [
        f"project {clean(status.name, 80)}, {state_of(status)}",
        f"{wording.bar(parts_of(status))}  {wording.line(figures.of_project(status))}",
    ]
    lines += _stages_text(status.stages)
    if status.warning is not None:
        lines.append(clean(status.warning, 400))
    series = _series(board)
    if series:
        sums = [sum(column) for column in zip(*series.values(), strict=True)]
        lines.append(f"|{plots.line(sums)}|  {plots.title_of(series, SINCE)}")
    lines += [
        f"job {each.output.number:,} at {clean(each.output.stage, 40)}: {clean(each.value.text, 200)}"
        for each in board.samples
    ]
    lines += [f"{group.count:,} x {reason_of(group)} {where(group)}" for group in board.groups[:GROUPS]]
    return "\n".join([*lines, f"and {board.failed_elsewhere:,} more"] if board.failed_elsewhere else lines)


def _stages_text(stages: Sequence[StageStatus]) -> list[str]:
    rows = []
    for stage, whole in zip(stages, figures.wholes(stages), strict=True):
        parts = [
            ("succeeded", stage.counts.get("succeeded", 0) / whole),
            ("failed", stage.counts.get("failed", 0) / whole),
        ]
        aside = wording.line(figures.aside_of_stage(stage))
        rows.append((clean(stage.label, 40), wording.bar(parts), *(f"{n:,}" for _, n in counts_of(stage)), aside))
    names = [name for name, _ in COUNTED]
    return table(("stage", "", *names, ""), rows, numbers=names).splitlines() if rows else []


# ---- in words ------------------------------------------------------------------------------


def state_of(status: ProjectStatus) -> str:
    """Return how a project stands, in a word."""
    return "paused" if status.is_paused else "running" if status.open else "done" if status.total else "empty"


def parts_of(status: ProjectStatus) -> list[Part]:
    """Return how many of its jobs ended how."""
    whole = status.total or 1
    kinds = {"succeeded": status.succeeded, "failed": status.failed, "cancelled": status.cancelled}
    return [(kind, count / whole) for kind, count in kinds.items()]


def counts_of(stage: StageStatus) -> list[tuple[str, int]]:
    """Return what the funnel says of *stage*."""
    return [(name, sum(stage.counts.get(state, 0) for state in states)) for name, states in COUNTED]


def reason_of(group: FailureGroup) -> str:
    """Return why its jobs failed: what their reasons have in common, where they are several."""
    return clean(group.reason if group.count == 1 else group.pattern, 160)


def where(group: FailureGroup) -> str:
    """Return at which stage they failed, and one of them."""
    return f"at {clean(group.stage, 40)} (%job {group.jobs[0]})" if group.jobs else f"at {clean(group.stage, 40)}"


def last_picture(samples: Sequence[Sample]) -> Sample | None:
    """Return the newest that is a picture and no larger than a page should be."""
    pictures = ((each, each.value.picture) for each in samples)
    return next((each for each, shown in pictures if shown and len(shown[1]) <= PICTURE_LIMIT), None)


def _series(board: Board) -> dict[str, list[int]]:
    """Return what came through each stage, if anything did; stages that have gone are left out."""
    if board.throughput is None:
        return {}
    told = board.throughput.stages
    series = {stage.name: told[stage.name] for stage in board.status.stages if stage.name in told}
    return series if any(map(any, series.values())) else {}
