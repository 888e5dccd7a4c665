"""A job with all that is known of it, as HTML and as text: its past, what it said, what went in and came out."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Sequence
from html import escape
from itertools import groupby
from typing import Any, NamedTuple

import msgspec

from dcengine.glances import Glance
from dcengine.lists import clock, job_name, state_text, what_text
from dcengine.plain import clean
from dcengine.verbs import Flag, JobStatus, Line, Try

from . import figures, markup, rendering, terminal_text, wording

VALUE, TRACE = 1000, 4000  #: characters of a value, and of a traceback, that are shown
TRIES, PARTS = 20, 20  #: of one stage
PICTURE_LIMIT = 1 << 20  #: bytes of a picture that becomes part of the page
SCROLLING = "max-height:22em;overflow:auto;white-space:pre-wrap;overflow-wrap:anywhere;margin:2px 0"


class Value(NamedTuple):
    """A value as people see it; what of it is a picture may be large."""

    glance: Glance
    picture: tuple[str, bytes] | None = None

    @property
    def text(self) -> str:
        """What is said of it in one line."""
        kind, text = self.glance.kind, self.glance.text
        if kind == "nothing":
            return "nothing"
        if kind == "picture":
            return f"a picture ({self.glance.media}, {self.glance.size:,} bytes)"
        if kind == "object":
            return f"an object: {clean(text, 200)} ({self.glance.size:,} bytes)"
        return clean(text + ("…" if self.glance.is_cut else ""), VALUE)


class Episode(NamedTuple):
    """A job at one stage, in one generation."""

    stage: str
    generation: int
    state: str
    worker: str | None
    contributor: str | None
    finished: float | None
    input: Value
    output: Value
    parts: list[int]
    tries: list[Try]
    flags: list[Flag]


class Past(NamedTuple):
    """A job, and what is known of how it came to this."""

    status: JobStatus
    why: str = ""  #: it does not run
    episodes: Sequence[Episode] = ()
    said: Sequence[Line] = ()  #: while it ran, the newest lines
    left_out: int = 0  #: older lines


# ---- as HTML -------------------------------------------------------------------------------


def past_html(past: Past) -> str:
    """Return what changes most: how the job stands, and whose it is."""
    status = past.status
    look = f"font-weight:400;white-space:nowrap;{markup.MUTED}"
    rows = [
        f'<dt style="{look}">{name}</dt><dd style="margin:0">{markup.outside(value, 200)}</dd>'
        for name, value in facts(status)
    ]
    style = "display:grid;grid-template-columns:fit-content(9em) 1fr;gap:0 12px;margin:2px 0"
    return rendering.job_html(status, past.why) + markup.frame(f'<dl style="{style}">{"".join(rows)}</dl>')


def more_html(past: Past) -> str:
    """Return what it said and what happened to it."""
    titles = [markup.section("What it said"), _said_html(past), markup.section("What happened")]
    happened = [_episode_html(episode) for episode in past.episodes] or [markup.note("nothing yet")]
    return markup.frame(*titles, *happened)


def _said_html(past: Past) -> str:
    if not past.said:
        return markup.note("nothing was printed")
    older = markup.note(f"{past.left_out:,} older lines are left out") if past.left_out else ""
    pieces = "".join(_said_together(kind, list(lines)) for kind, lines in groupby(past.said, lambda line: line.kind))
    return older + f'<div role="log" tabindex="0" style="{markup.CODE};{SCROLLING}">{pieces}</div>'


def _said_together(kind: str, lines: list[Line]) -> str:
    """Return consecutive lines of one kind: colours and bars go on from one to the next."""
    if kind in ("stdout", "stderr"):
        return terminal_text.html_of("".join(line.text for line in lines))
    look = markup.RED_WORDS if kind == "error" else markup.MUTED
    return "".join(f'<div style="{look}">{html}</div>' for html in map(_shown_html, lines) if html)


def _shown_html(line: Line) -> str:
    data = _shape_of(line).get("data")
    encoded = data.get("image/png") if isinstance(data, dict) else None
    if isinstance(encoded, str) and len(encoded) <= PICTURE_LIMIT:
        try:
            return markup.picture("image/png", b64decode(encoded), "a picture that it has shown")
        except ValueError:
            pass
    return terminal_text.html_of(_text_in(line))


def _episode_html(episode: Episode) -> str:
    head = (
        f"{markup.dot(episode.state)}<b>{markup.outside(episode.stage, 60)}</b> {escape(clean(heading(episode), 300))}"
    )
    tries = [markup.row(markup.outside(text, 400), markup.MUTED) for text in remarks(episode)]
    values = [
        markup.row(f'<span style="{markup.MUTED}">{name}</span> {_value_html(value)}')
        for name, value in (("in", episode.input), ("out", episode.output))
    ]
    return markup.row(markup.row(head) + "".join([*tries, *values]), "padding:3px 0 3px 0")


def _value_html(value: Value) -> str:
    if value.picture is not None and len(value.picture[1]) <= PICTURE_LIMIT:
        return markup.picture(*value.picture, value.text)
    if value.glance.kind == "failure":
        words = f'<span style="{markup.RED_WORDS}">{markup.code(value.glance.text, 400)}</span>'
        trace = terminal_text.html_of(value.glance.traceback[-TRACE:])
        return words + (
            markup.fold("traceback", f'<div style="{markup.CODE};{SCROLLING}">{trace}</div>') if trace else ""
        )
    return markup.code(value.text, VALUE)


# ---- as text -------------------------------------------------------------------------------


def past_text(past: Past) -> str:
    """Return all of it as lines of text."""
    width = max((len(name) for name, _ in facts(past.status)), default=0)
    lines = [
        wording.job_text(past.status, past.why),
        *(f"{name:{width}}  {clean(value, 200)}" for name, value in facts(past.status)),
    ]
    for episode in past.episodes:
        lines += [f"{clean(episode.stage, 60)}  {clean(heading(episode), 300)}"]
        lines += [f"  {clean(text, 400)}" for text in remarks(episode)]
        lines += [f"  in   {episode.input.text}", f"  out  {episode.output.text}"]
    printed = "".join(
        _text_in(line) if line.kind in ("stdout", "stderr") else f"{_text_in(line)}\n" for line in past.said
    )
    if printed.strip():
        lines += ["it said:", *(f"  {line}" for line in terminal_text.text_of(printed.rstrip()).split("\n"))]
    return "\n".join(lines)


# ---- in words ------------------------------------------------------------------------------


def facts(status: JobStatus) -> list[tuple[str, str]]:
    """Return what is to be known of a job beside how it stands, each with its name."""
    told = [
        ("name", f"{job_name(status)} ({what_text(status)}), {state_text(status)}"),
        ("key", status.key or ""),
        ("stage", status.stage),
        ("worker", status.worker or ""),
        ("tags", status.tags),
        ("brought by", ", ".join(part for part in (status.submitter, clock(status.created)) if part)),
        ("ended", "" if status.finished is None else clock(status.finished)),
        ("tries", f"{status.attempt:,}" if status.attempt > 1 else ""),
        ("priority", f"{status.priority:,}" if status.priority else ""),
    ]
    return [(name, value) for name, value in told if value]


def heading(episode: Episode) -> str:
    """Return how a job stood at a stage: state, worker, contributor, when."""
    told = [
        episode.state,
        f"on {episode.worker}" if episode.worker else "",
        f"for {episode.contributor}" if episode.contributor and episode.contributor != episode.worker else "",
        f"at {clock(episode.finished)}" if episode.finished else "",
        f"generation {episode.generation}" if episode.generation else "",
    ]
    return ", ".join(part for part in told if part)


def remarks(episode: Episode) -> list[str]:
    """Return what went wrong at a stage, try by try, and which parts it has."""
    told = [_tried(each) for each in episode.tries[-TRIES:]]
    if len(episode.tries) > TRIES:
        told.insert(0, f"{len(episode.tries) - TRIES:,} older tries")
    told += [f"{flag.voter} says that the input is bad: {flag.reason}" for flag in episode.flags]
    if episode.parts:
        shown = ", ".join(map(str, episode.parts[:PARTS])) + (", …" if len(episode.parts) > PARTS else "")
        told.append(f"parts: jobs {shown}")
    return told


def _tried(each: Try) -> str:
    where = f" on {each.worker}" if each.worker else ""
    after = f" after {figures.duration(each.seconds)}" if each.seconds else ""
    return f"try {each.attempt} {each.what}{where}{after}: {each.reason}"


def _text_in(line: Line) -> str:
    """Return what *line* says, in its plain form where it has others."""
    if line.kind in ("stdout", "stderr", "note"):
        return line.text
    shape = _shape_of(line)
    if line.kind == "error":
        trace = shape.get("traceback")
        return "\n".join(map(str, trace)) if isinstance(trace, list) else str(shape.get("name", ""))
    data = shape.get("data")
    return str(data.get("text/plain", "")) if isinstance(data, dict) else ""


def _shape_of(line: Line) -> dict[str, Any]:
    """Return the JSON in *line*; nothing where it holds none."""
    if line.kind in ("stdout", "stderr", "note"):
        return {}
    try:
        shape = msgspec.json.decode(line.text)
    except msgspec.DecodeError:
        return {}
    return shape if isinstance(shape, dict) else {}
