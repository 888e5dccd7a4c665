"""What views show: all of it said, nothing of it obeyed."""

from __future__ import annotations

import math
from collections.abc import Callable
from html.parser import HTMLParser

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcengine.glances import Glance
from dcengine.lists import Explained, JobList, Leaderboard, Sentence, WorkerList
from dcengine.verbs import (
    BatchStatus,
    Explanation,
    FailedItem,
    FailureGroup,
    Flag,
    JobFilter,
    JobStatus,
    LeaderboardRow,
    Line,
    Progress,
    ProjectStatus,
    StageOutput,
    StageStatus,
    Throughput,
    Try,
    WorkerStatus,
    WorkerVerdict,
)
from dcengine_magics.views import board_forms, browser_forms, past_forms, plots, rendering, terminal_text, wording
from dcengine_magics.views.board_forms import Board, Sample
from dcengine_magics.views.past_forms import Episode, Past, Value

TAGS = {
    "div", "span", "b", "bdi", "table", "thead", "tbody", "tr", "th", "td", "dl", "dt", "dd", "details", "summary",
    "svg", "rect",
}  # fmt: skip
ATTRIBUTES = {
    "style", "colspan", "scope", "role", "tabindex", "aria-label", "aria-valuemin", "aria-valuemax", "aria-valuenow",
    "viewbox", "preserveaspectratio", "x", "y", "width", "height", "fill",
}  # fmt: skip
MARK = "Qq7"
TILE = Value(Glance(kind="python", text='{"tile": 7}'))
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
    groups = [
        FailureGroup(project=text, stage=text, pattern=text, count=n + 1, reason=text, jobs=[n], newest=0, oldest=0)
        for n in range(7)
    ]
    samples = [Sample(StageOutput(1, 1, "succeeded", b"", text), Value(Glance(kind="python", text=text)))]
    plot = Throughput(at=0.0, credit=[], stages={stage.name: [0, 3, 1] for stage in stages})
    board = Board(status, plot, samples, groups)
    return board_forms.board_html(board) + board_forms.more_html(board), board_forms.board_text(board)


def past(text: str) -> tuple[str, str]:
    status = JobStatus(
        id=1, project=text, number=1, name=text, state="open", task_state="queued", worker=text, reason=text, key=text,
        tags=text, stage=text, submitter=text,
    )  # fmt: skip
    failure = Value(Glance(kind="failure", text=text, traceback=text))
    episode = Episode(
        text, 1, text, text, text, 1.0, Value(Glance(kind="object", text=text)), failure, [1],
        [Try(attempt=1, worker=text, what=text, reason=text, at=0.0)],
        [Flag(voter=text, reason=text, worker=text, at=0.0)],
    )  # fmt: skip
    shown = msgspec.json.encode({"data": {"text/html": "<h1>", "text/plain": spoken(text)}}).decode()
    kinds = {"stdout": text, "stderr": text, "note": text, "display": shown, "error": spoken(text)}
    lines = [Line(n, kind, said) for n, (kind, said) in enumerate(kinds.items())]
    told = Past(status, text, [episode], lines, 3)
    return past_forms.past_html(told) + past_forms.more_html(told), past_forms.past_text(told)


def spoken(text: str) -> str:
    """Return *text* as JSON can say it."""
    return text.encode("utf-8", "replace").decode()


def page(text: str) -> tuple[str, str]:
    wanted = JobFilter(project=text, stage=text, submitter=text, worker=text, text=text)
    row = JobStatus(id=1, project=text, number=1, name=text, state="failed", task_state="failed", stage=text)
    found = JobList([row], wanted=wanted, older=7)
    return browser_forms.page_html(found), browser_forms.page_text(found)


def problem(text: str) -> tuple[str, str]:
    return browser_forms.page_html(JobList(), text), browser_forms.page_text(JobList(), text)


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


FORMS = [batch, job, project, past, page, problem, leaderboard, workers, explanation, jobs, sentence]


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
    shown = page.text.replace("\n", "") if "white-space:pre-wrap" in html else page.text  # what was printed has lines
    assert shown.isprintable()
    assert all(line.isprintable() for line in text.split("\n"))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("hostile", HOSTILE, ids=range(len(HOSTILE)))
def test_no_text_from_outside_becomes_markup(form: Callable[[str], tuple[str, str]], hostile: str) -> None:
    html, text = form(hostile)

    check(html, text)
    assert MARK in Reader(html).text
    assert MARK in text
    assert len(html) < (400_000 if form is past else 40_000)  # what a job has printed is shown as it is
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


def test_a_board_shows_its_stages_as_a_funnel_its_pace_and_what_fails() -> None:
    stages = [
        StageStatus(name="load", tags="", counts={"succeeded": 8, "failed": 2}),
        StageStatus(name="sheet", tags="", counts={"succeeded": 4, "leased": 1, "queued": 2, "waiting": 1}),
    ]
    status = ProjectStatus(
        name="photos", is_paused=False, stages=stages, open=4, succeeded=4, failed=2, rate=3.5, eta=65.0, workers=["w1"]
    )
    plot = Throughput(at=0.0, credit=[], stages={"load": [0, 4, 8], "sheet": [0, 0, 4], "gone": [9, 9, 9]})
    group = FailureGroup(
        project="photos", stage="load", pattern="ValueError: N dead", count=2, reason="ValueError: 3 dead", jobs=[9],
        newest=0.0, oldest=0.0,
    )  # fmt: skip
    board = Board(status, plot, [Sample(StageOutput(8, 7, "succeeded", b"", "sheet"), TILE)], [group])

    page = Reader(board_forms.board_html(board) + board_forms.more_html(board))
    assert page.tags >= {"th", "svg", "rect"}
    assert board_forms.board_html(board).count("progressbar") == 3
    assert board_forms.board_text(board).splitlines() == [
        "project photos, running",
        "[##########xxxxx.........]  6 of 10 jobs, 1 running, 2 failed, 3.5 tasks/s, 1 min 5 s left, on w1",
        "stage                              queued  running  done  failed",
        "load   [###################xxxxx]       0        0     8       2",
        "sheet  [##########..............]       3        1     4       0",
        "| ▃█|  tasks done in the last hour: 16, at most 12 in half a minute",
        'job 7 at sheet: {"tile": 7}',
        "2 x ValueError: N dead at load (%job 9)",
    ]


def test_the_last_picture_is_shown_and_one_that_is_too_large_is_named() -> None:
    small = Value(Glance(kind="picture", media="image/png", size=9), ("image/png", b"\x89PNG"))
    large = Value(Glance(kind="picture", media="image/png", size=9), ("image/png", bytes(2 << 20)))
    status = ProjectStatus(name="photos", is_paused=False, stages=[])

    def html(value: Value) -> str:
        return board_forms.more_html(Board(status, samples=[Sample(StageOutput(1, 1, "succeeded", b""), value)]))

    assert '<img src="data:image/png;base64,iVBORw==" alt="what job 1 came to: a picture' in html(small)
    assert "<img" not in html(large)
    assert "a picture (image/png, 9 bytes)" in html(large)


def test_what_was_printed_keeps_its_colours_and_nothing_else() -> None:
    said = "\x1b[1;31mred\x1b[0m <b>\x1b]0;title\x07 \x1b]8;;javascript:alert(1)\x1b\\link\x1b]8;;\x1b\\\x1b[2J\nnext"

    html = terminal_text.html_of(said)
    assert "font-weight: bold" in html
    assert "color: #cd4040" in html
    assert "<b>" not in html
    assert "javascript" not in html
    assert terminal_text.text_of(said) == "red <b> link\nnext"
    assert terminal_text.text_of("10 %\r50 %\r100 %\r\ndone") == "100 %\ndone"


def test_a_line_of_letters_has_the_highest_at_its_peak_and_shows_the_least() -> None:
    assert plots.line([0, 1, 80, 40]) == " ▁█▄"
    assert len(plots.line([1] * 120)) == 40


def test_a_table_of_many_shows_the_first_and_counts_the_rest() -> None:
    rows = [LeaderboardRow(f"n{n}", 1, 0.001) for n in range(1000)]

    html = rendering.leaderboard_html(rows, "photos")

    assert html.count("<tr") == 101
    assert "and 900 more contributors" in Reader(html).text
