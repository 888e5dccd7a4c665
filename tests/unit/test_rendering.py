"""What views show: all of it said, nothing of it obeyed."""

from __future__ import annotations

import math
from collections.abc import Callable
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcengine.lists import Explained, JobList, Leaderboard, Sentence, WorkerList
from dcengine.verbs import (
    BatchStatus,
    Explanation,
    FailedItem,
    JobStatus,
    LeaderboardRow,
    Progress,
    ProjectStatus,
    StageStatus,
    WorkerStatus,
    WorkerVerdict,
)
from dcengine_magics.views import rendering, wording

TAGS = {"div", "span", "b", "bdi", "table", "thead", "tbody", "tr", "th", "td"}
ATTRIBUTES = {"style", "colspan", "role", "aria-valuemin", "aria-valuemax", "aria-valuenow"}
MARK = "Qq7"
HOSTILE = [
    f"<script>alert('{MARK}')</script>",
    f'"><img src=x onerror=alert("{MARK}")>',
    f"' style='position:fixed' {MARK}='",
    f"</bdi></div></td></table><h1>{MARK}",
    f"<!-- {MARK}",
    f"&lt;b&gt;{MARK}&#x3c;i&#x3e;",
    f"{MARK}\u202egnp.exe\u202c\u2066",
    f"{MARK}\u200b\u200d\ufeff\u00ad",
    f"{MARK}\x1b]8;;http://evil\x07link\x00\x9b31m",
    f"{MARK}\nsecond line\r\u2028third",
    MARK + "x" * 10_000,
    MARK + "a\u0301\u0301" + "\u0301" * 10_000,
    f"{MARK}\ud800",
]


def batch(text: str) -> tuple[str, str]:
    status = BatchStatus(
        id=1, project=text, name=text, state="open", count=9, succeeded=1, failed=2, running=1, workers=[text] * 9,
        warning=text, tags=text,
    )  # fmt: skip
    failed = [FailedItem(n, n, f"{n}{text}") for n in range(7)]
    return rendering.batch_html(status, failed), wording.batch_text(status, failed)


def job(text: str) -> tuple[str, str]:
    progress = Progress(3, 10, text)
    status = JobStatus(
        id=1, project=text, number=1, name=text, state="open", task_state="leased", worker=text, progress=progress,
        reason=text,
    )  # fmt: skip
    return rendering.job_html(status, text), wording.job_text(status, text)


def project(text: str) -> tuple[str, str]:
    stages = [StageStatus(name=f"{n}{text}", tags=text, counts={"leased": 1}) for n in range(3)]
    status = ProjectStatus(name=text, is_paused=False, stages=stages, open=3, failed=9, workers=[text], warning=text)
    failed = [FailedItem(n, n, f"{n}{text}") for n in range(7)]
    return rendering.project_html(status, 1.0, failed), wording.project_text(status, 1.0, failed)


def leaderboard(text: str) -> tuple[str, str]:
    rows = [LeaderboardRow(text, 1, 1.0)]
    return rendering.leaderboard_html(rows, text), repr(Leaderboard(rows, text))


def workers(text: str) -> tuple[str, str]:
    worker = WorkerStatus(
        name=text, address=text, contributor=text, state="unfit", slots=1, busy=0, tags={text: None, "site": text},
        reason=text,
    )  # fmt: skip
    return rendering.workers_html([worker]), repr(WorkerList([worker]))


def explanation(text: str) -> tuple[str, str]:
    verdicts = [
        WorkerVerdict(name=text, lacking=[text]),
        WorkerVerdict(name="b", lacking=[], problem=text),
        WorkerVerdict(name="c", lacking=[]),
    ]
    explained = Explained.of(Explanation(sentence=text, workers=verdicts))
    return rendering.explanation_html(explained), repr(explained)


def jobs(text: str) -> tuple[str, str]:
    facts = {"name": text, "stage": text, "worker": text, "tags": text, "reason": text, "errors": 1}
    rows = [
        JobStatus(id=1, project="functions", number=1, state="failed", task_state="failed", **facts),  # type: ignore[arg-type]
        JobStatus(id=2, project=text, number=1, state="open", task_state="queued", **facts),  # type: ignore[arg-type]
    ]
    found = JobList(rows, [BatchStatus(id=1, project=text, name=text, state="failed", count=9, failed=2)])
    return rendering.jobs_html(found), repr(found)


def sentence(text: str) -> tuple[str, str]:
    return rendering.sentence_html(Sentence.of(text)), repr(Sentence.of(text))


FORMS = [batch, job, project, leaderboard, workers, explanation, jobs, sentence]


class Reader(HTMLParser):
    """Collects what a browser would make of a page."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.styles = ""
        self.text = ""
        self.others = ""
        self.open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.open.append(tag)
        self.attributes.update(name for name, _ in attrs)
        self.styles += " ".join(value or "" for _, value in attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_comment(self, data: str) -> None:
        self.others += data

    handle_decl = handle_pi = unknown_decl = handle_comment


def check(html: str, text: str) -> None:
    page = Reader(html)
    assert page.tags <= TAGS
    assert page.attributes <= ATTRIBUTES
    assert MARK not in page.styles
    assert not page.others
    assert not page.open
    assert page.text.isprintable()
    assert all(line.isprintable() for line in text.split("\n"))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("hostile", HOSTILE, ids=range(len(HOSTILE)))
def test_no_text_from_outside_becomes_markup(form: Callable[[str], tuple[str, str]], hostile: str) -> None:
    html, text = form(hostile)

    check(html, text)
    assert MARK in Reader(html).text
    assert MARK in text
    assert len(html) < 40_000
    html.encode()


@pytest.mark.parametrize("form", FORMS)
@given(text=st.text(alphabet=st.characters() | st.sampled_from("<>&\"'/=!-\u202e\u200b\n\x1b")))
def test_no_text_at_all_becomes_markup(form: Callable[[str], tuple[str, str]], text: str) -> None:
    check(*form(text))


def test_a_batch_shows_bar_figures_and_reasons() -> None:
    status = BatchStatus(
        id=3, project="functions", name="enhance", state="open", count=100, succeeded=50, failed=2, running=4, rate=12,
        workers=["w0"],
    )  # fmt: skip
    failed = [FailedItem(4, 5, "ValueError: bad pixel"), FailedItem(17, 18, "ValueError: bad pixel")]

    html, text = rendering.batch_html(status, failed), wording.batch_text(status, failed)

    assert [part in html for part in ("width:50.00%", "width:2.00%", "width:4.00%")] == [True] * 3
    assert "2 × ValueError: bad pixel (items 4, 17)" in Reader(html).text
    assert text.splitlines() == [
        "batch 3  enhance",
        "[############x...........]  52 of 100, 4 running, 2 failed, 12/s, 4 s left, on w0",
        "2 x ValueError: bad pixel (items 4, 17)",
    ]


def test_failures_that_are_not_named_are_counted() -> None:
    status = BatchStatus(id=3, project="functions", name="f", state="failed", count=1000, failed=1000)
    failed = [FailedItem(n, n, "OSError: no") for n in range(200)]

    assert "and 800 more" in Reader(rendering.batch_html(status, failed)).text
    assert wording.batch_text(status, failed).endswith("and 800 more")


@pytest.mark.parametrize("progress", [Progress(7, 3), Progress(-1, 3), Progress(math.nan, 3), Progress(1, math.inf)])
def test_a_job_that_counts_badly_still_has_a_bar(progress: Progress) -> None:
    status = JobStatus(
        id=1, project="functions", number=1, name="f", state="open", task_state="leased", progress=progress
    )

    check(rendering.job_html(status), wording.job_text(status))
    assert "nan%" not in rendering.job_html(status)
    assert len(wording.job_text(status).splitlines()[1].split("]")[0]) == 25


def test_what_is_rare_stays_visible_in_a_bar_of_letters() -> None:
    status = BatchStatus(id=3, project="functions", name="f", state="failed", count=10_000, succeeded=9_999, failed=1)

    assert "[#######################x]" in wording.batch_text(status)


def test_a_project_has_a_bar_for_each_stage() -> None:
    stages = [
        StageStatus(name="load", tags="", counts={"succeeded": 10}),
        StageStatus(name="sheet", tags="", counts={"succeeded": 5, "queued": 5}),
    ]
    status = ProjectStatus(name="photos", is_paused=False, stages=stages, open=5, succeeded=5)

    assert rendering.project_html(status).count("progressbar") == 2
    assert wording.project_text(status).splitlines() == [
        "project photos",
        "load   [########################]  10 done",
        "sheet  [############............]  5 done",
        "5 of 10 jobs",
    ]


def test_a_table_of_many_shows_the_first_and_counts_the_rest() -> None:
    rows = [LeaderboardRow(f"n{n}", 1, 0.001) for n in range(1000)]

    html = rendering.leaderboard_html(rows, "photos")

    assert html.count("<tr") == 101
    assert "and 900 more contributors" in Reader(html).text
