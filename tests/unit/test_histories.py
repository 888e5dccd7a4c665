"""What each stage made of a job, as handles show it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from dcengine import codec
from dcengine.errors import InvalidOption, ResultExpired
from dcengine.handles import JobHandle
from dcengine.verbs import Flag, HistoryEntry, JobResult, JobStatus, ProjectStatus, StageOutput, StageStatus, Try
from tests.unit.linked import DoubleLink


@pytest.fixture
def link() -> Iterator[DoubleLink]:
    opened = DoubleLink()
    stages = [
        StageStatus(name="split", tags="", counts={}, shape="expand"),
        StageStatus(name="see", tags="", counts={}),
    ]
    last = [
        StageStatus(name="join", tags="", counts={}, shape="gather"),
        StageStatus(name="out", tags="", counts={}, kind="lease"),
    ]
    opened.engine.project_statuses["photos"] = ProjectStatus(name="photos", is_paused=False, stages=[*stages, *last])
    for number, parent in ((1, None), (2, 101), (3, 101), (4, 101)):
        opened.engine.statuses[100 + number] = JobStatus(
            id=100 + number, project="photos", number=number, name="", state="failed", task_state="failed",
            stage="out" if parent is None else "see", parent=parent,
        )  # fmt: skip
    yield opened
    opened.loop.close()


def entry(stage: str, **facts: Any) -> HistoryEntry:
    plain: dict[str, Any] = {
        "task": 1, "generation": 0, "state": "succeeded", "attempt": 1, "worker": "w1", "contributor": "ann",
        "finished": 5.0, "input": codec.dumps("in"), "output": codec.dumps("out"),
    }  # fmt: skip
    return HistoryEntry(stage=stage, **{**plain, **facts})


def test_values_are_unpickled_when_they_are_asked_for_and_not_before(link: DoubleLink) -> None:
    trap = b"cno_such_module\nThing\n."
    link.engine.histories[101] = [entry("split", input=trap, output=codec.pack_json({"a": 1}, what="it"))]

    history = JobHandle(link, 101).history()

    assert repr(history)
    assert history._repr_html_()
    assert history[0].output == {"a": 1}
    assert (history[0].worker, history[0].contributor, history[0].finished, history[0].runs) == ("w1", "ann", 5.0, 1)
    with pytest.raises(ModuleNotFoundError):
        _ = history[0].input


def test_it_prints_as_a_table_in_which_nothing_steers_or_becomes_markup(link: DoubleLink) -> None:
    failure = codec.pack_failure(codec.failure_from(ValueError("<b>bad</b> \x1b[31m")))
    flags = [
        Flag(voter="bob", reason="black", worker=None, at=1.0),
        Flag(voter="eve", reason="blue", worker=None, at=2.0),
    ]
    tries = [Try(attempt=1, worker="w", what="retried", reason="ValueError: first", at=1.0)]
    link.engine.histories[101] = [
        entry("split", parts=[2, 3]),
        entry("see", state="returned", flags=flags, output=None, attempt=2),
        entry("see", generation=1, state="failed", tries=tries, output=failure, worker=None),
        entry("out", state="queued", tries=tries, output=None, worker=None),
    ]

    history = JobHandle(link, 101).history()

    assert [line.split(maxsplit=3) for line in repr(history).splitlines()] == [
        ["stage", "generation", "state", "worker  runs  parts  remarks"],
        ["split", "0", "succeeded", "w1         1      2"],
        ["see", "0", "returned", "w1         2         flagged by bob: black, by eve: blue"],
        ["see", "1", "failed", r"1         ValueError: <b>bad</b> \x1b[31m"],
        ["out", "0", "queued", "1         1 x ValueError: first"],
    ]
    html = history._repr_html_()
    assert html.count("<tr>") == 5
    assert "&lt;b&gt;bad&lt;/b&gt;" in html
    assert "\x1b" not in html
    assert str(history[2].error) == "<b>bad</b> \x1b[31m"
    assert [record.output for record in history[1:]] == [None] * 3


def test_remarks_tell_who_said_what_and_why_an_output_counts_no_more(link: DoubleLink) -> None:
    said = [("bob", "black"), ("eve", "blue"), ("ann", "black"), ("tom", "")]
    flags = [Flag(voter=voter, reason=reason, worker=None, at=1.0) for voter, reason in said]
    back = Try(attempt=0, worker=None, what="returned", reason="", at=1.0)
    edited = Try(attempt=0, worker=None, what="returned", reason="its input was edited", at=1.0)
    failed = Try(attempt=1, worker="w", what="failed", reason="ValueError: dark", at=1.0)
    link.engine.histories[101] = [
        entry("split", state="returned", tries=[back]),
        entry("see", state="returned", tries=[back], flags=flags),
        entry("see", state="returned", tries=[failed, edited], output=None),
        entry("see", state="succeeded"),
        entry("see", state="succeeded", tries=[back]),
    ]

    history = JobHandle(link, 101).history()

    assert [record.remarks for record in history] == [
        "sent back",
        "flagged by bob, ann: black, by eve: blue, by tom",
        "1 x ValueError: dark; its input was edited",
        "",
        "its output was rejected",
    ]
    assert [len(record.tries) for record in history] == [0, 0, 1, 0, 0]


def test_the_input_of_a_gather_are_the_outputs_of_its_parts(link: DoubleLink) -> None:
    link.engine.histories[101] = [entry("join", input=None, parts=[4, 2, 3])]
    ends = [
        StageOutput(102, 2, "succeeded", codec.dumps("two"), "see"),
        StageOutput(103, 3, "failed", codec.pack_failure(codec.failure_from(ValueError())), "see"),
        StageOutput(104, 4, "succeeded", codec.dumps("four"), "see"),
        StageOutput(105, 5, "succeeded", codec.dumps("of another"), "see"),
    ]
    link.engine.stage_outputs["photos/see"] = ends

    (record,) = JobHandle(link, 101).history()

    assert record.input == ["four", "two"]
    link.engine.histories[101] = [entry("join", input=None, parts=list(range(1000)))]
    assert JobHandle(link, 101).history()[0].input == list(range(1000))


def test_values_that_have_expired_are_told_to_be_gone(link: DoubleLink) -> None:
    link.engine.histories[101] = [entry("split", input=b"", output=b"")]

    (record,) = JobHandle(link, 101).history()

    for ask in (lambda: record.input, lambda: record.output):
        with pytest.raises(ResultExpired):
            ask()


def test_parts_and_their_parent_are_found(link: DoubleLink) -> None:
    link.engine.histories[101] = [entry("split", parts=[2, 3, 4]), entry("join", input=None, parts=[2, 3, 4])]
    job = JobHandle(link, 101)

    assert job.parent is None
    assert job.parts.numbers == [2, 3, 4]
    assert [part.id for part in job.parts] == [102, 103, 104]
    assert [part.id for part in job.parts[1:]] == [103, 104]
    assert len(job.parts) == 3
    parent = job.parts[-1].parent
    assert parent is not None
    assert parent.id == 101
    assert not JobHandle(link, 102).parts


def test_another_try_forgets_the_end_that_was_known(link: DoubleLink) -> None:
    link.engine.results[101] = JobResult("failed", codec.pack_failure(codec.failure_from(ValueError())))
    job = JobHandle(link, 101)
    assert job.done()

    assert job.retry()
    assert not job.done()
    assert not job.retry()


def test_an_edited_input_is_packed_for_who_takes_it(link: DoubleLink) -> None:
    JobHandle(link, 102).edit((1, 2))
    JobHandle(link, 101).edit([1, 2])

    assert codec.loads(link.engine.inputs[102]) == (1, 2)
    assert link.engine.inputs[101][:1] == b"J"


def test_the_arguments_of_a_single_call_are_not_edited(link: DoubleLink) -> None:
    link.engine.statuses[7] = JobStatus(
        id=7, project="functions", number=7, name="f", state="failed", task_state="failed"
    )

    with pytest.raises(InvalidOption, match="submit it with other arguments"):
        JobHandle(link, 7).edit(5)
