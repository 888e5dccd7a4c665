"""What workers and submitters call themselves and say is shown as text, wherever people look: never as what it says."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import pytest
from typer.testing import CliRunner

import dcengine
from dcengine.cli import app
from dcengine.codec import pack, pack_json
from dcengine.verbs import ItemsSubmission, ProjectSpec, StageSpec
from dcengine_magics.views.formatters import Views
from tests.attacks import Target
from tests.engines import embedded

NASTY = {
    "script": "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "attribute": "\" onmouseover=alert(1) x='><iframe src=//evil.example>",
    "entity": "&lt;script&gt;alert(1)&lt;/script&gt;&#60;svg onload=alert(1)&#62;",
    "bidi": "\u202egro.elpmaxe\u202c\u2066x\u2069\u200f",
    "steering": "\x1b[31m\x1b]0;pwned\x07\x1b[2J\x1bP\x9b31m\x08\x08\x7f",
    "lines": "a\r\nb\n1  mallory  999999\x0b\x0c\x85\u2028\u2029c",
    "invisible": "\u200b\u2060\ufeff\xad\U000e0041\u3164",
    "marks": "z" + "\u0301" * 150,
    "rich": "[bold red]x[/] [link=http://evil.example]y[/link] :skull: {{7*7}} {0.__class__} %s",
}
#: a plot of ours, which holds nothing but columns
PLOT = re.compile(r'<svg viewBox="0 0 600 60" preserveAspectRatio="none" [^<>]*>(?:<rect [^<>]*></rect>)+</svg>')
TAGS = frozenset({"script", "img", "iframe", "svg", "a", "link", "style", "object", "embed", "form"})


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dcengine.Engine]:
    with embedded(tmp_path_factory.mktemp("texts") / "work.db", processes=False, workers=0) as started:
        yield started


@pytest.fixture(scope="module")
def target(engine: dcengine.Engine) -> Target:
    """A server to which workers have said nasty things in every place there is."""
    target = Target(engine.url)
    stages = [StageSpec(name=name, kind="lease", title="<b onclick=alert(1)>title<script>") for name in "ab"]
    engine._link.call("declare_project", ProjectSpec(name="laion", stages=stages))
    items = [*NASTY.values(), *NASTY.values(), *NASTY.values()]
    block = pack([pack_json(item, what="an item") for item in items])
    added = ItemsSubmission(project="laion", blocks=[block], count=len(items), submitter=NASTY["steering"])
    engine._link.call("add_jobs", added)
    engine._link.call("run_project", "laion")
    for text in NASTY.values():
        tasks = told(
            target, "projects/laion/stages/a/lease",
            {"worker": f"{text} w"[:200], "nickname": text, "n": 3, "tags": {text: text}},
        )  # fmt: skip
        first, second, third = (task["token"] for task in tasks)
        told(target, "tasks/heartbeat", [{"token": token, "done": 1, "text": text} for token in (first, second, third)])
        told(target, "tasks/complete", [{"token": first, "output": {text: text}}])
        told(target, "tasks/fail", [{"token": second, "reason": text}])
        told(target, "tasks/flag", [{"token": third, "reason": text}])
        told(target, "tokens", {"role": "worker", "project": "laion", "nickname": text[:60], "note": text[:60]})
    told(target, "projects/laion/stages/b/lease", {"worker": NASTY["steering"], "nickname": NASTY["bidi"], "n": 4})
    return target


def told(target: Target, path: str, body: object) -> Any:
    status, answer = target.ask("POST", f"/v1/{path}", body)
    assert status == 200 or (path == "tokens" and status == 400), answer
    return answer


def check_terminal(shown: str) -> None:
    """Check that nothing in *shown* does more than to be seen, line by line."""
    strange = {
        letter
        for letter in shown
        if letter != "\n" and (unicodedata.category(letter) in ("Cc", "Cf", "Zl", "Zp", "Cs") or letter == "\u3164")
    }
    assert strange == set(), f"{strange} in {ascii(shown)[:3000]}"
    assert not any(line.lstrip().startswith("1  mallory") for line in shown.splitlines())


class Tags(HTMLParser):
    """The elements and attributes of a page as browsers see them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags, self.attributes = set[str](), set[str]()
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes.update(name for name, _ in attrs)


def check_page(page: str) -> None:
    """Check that *page* runs and loads nothing, and reverses no line."""
    seen = Tags(page)
    assert not seen.tags & TAGS
    assert not [name for name in seen.attributes if name.startswith("on") or name in ("src", "srcdoc", "formaction")]
    assert not [letter for letter in page if letter not in "\n\t" and unicodedata.category(letter) in ("Cc", "Cf")]


COMMANDS = (
    ["leaderboard", "laion"],
    ["jobs", "list"],
    ["jobs", "list", "--project", "laion"],
    ["jobs", "show", "laion/1"],
    *(["jobs", command, f"laion/{number}"] for command in ("history", "why") for number in range(1, len(NASTY) + 1)),
    ["jobs", "failed", "laion"],
    ["project", "list"],
    ["project", "show", "laion"],
    ["workers", "list"],
    ["workers"],
    ["workers", "explain", NASTY["script"]],
    ["status"],
    ["token", "list"],
    ["contributor", "list"],
    ["contributor", "banned"],
    ["leaderboard", NASTY["steering"]],
    ["jobs", "history", NASTY["steering"]],
    ["project", "show", NASTY["bidi"]],
    ["contributor", "ban", NASTY["steering"] + "who?"],
)


@pytest.mark.parametrize("arguments", COMMANDS, ids=lambda arguments: ascii(" ".join(arguments))[:60])
def test_a_terminal_shows_texts_and_obeys_none(target: Target, arguments: list[str]) -> None:
    result = CliRunner().invoke(app, arguments)

    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    check_terminal(result.output)


def test_what_is_printed_for_programs_is_ascii_or_escaped(target: Target) -> None:
    for arguments in (["leaderboard", "laion", "--json"], ["jobs", "failed", "laion", "--json"], ["export", "laion"]):
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, result.output
        steering = {letter for letter in result.stdout if letter != "\n" and unicodedata.category(letter) == "Cc"}
        assert not steering & set(map(chr, range(0x20)))


def test_a_table_runs_no_formula(target: Target) -> None:
    """Spreadsheets take a cell that begins so for a formula; the values are JSON, which never does."""
    result = CliRunner().invoke(app, ["export", "laion", "--stage", "a", "--format", "csv"])

    assert result.exit_code == 0
    assert not [line for line in result.stdout.splitlines() for cell in line.split(",") if cell.startswith(("=", "@"))]


def things() -> dict[str, Any]:
    project = dcengine.Project("laion")
    return {
        "project": project,
        "leaderboard": project.leaderboard(),
        "workers": dcengine.workers(),
        **{f"job {number}": project.job(number) for number in (1, 2, 5, 6)},
    }


@pytest.mark.parametrize("name", ["project", "leaderboard", "workers", "job 1", "job 2", "job 5", "job 6"])
def test_a_notebook_shows_texts_and_runs_none(target: Target, name: str) -> None:
    bundle = Views(None).bundle(things()[name])

    check_page(PLOT.sub("", bundle["text/html"]))
    check_terminal(bundle["text/plain"])
    check_terminal(repr(things()[name]))


@pytest.mark.parametrize("number", range(1, 2 * len(NASTY), 3))
def test_a_history_shows_texts_and_runs_none(target: Target, number: int) -> None:
    history = dcengine.Project("laion").job(number).history()

    check_page(history._repr_html_())
    check_terminal(repr(history))


@pytest.mark.parametrize("field", ["worker", "nickname"])
def test_a_name_of_a_million_letters_is_refused(target: Target, field: str) -> None:
    body = {"worker": "w", field: "x" * 1_000_000}

    status, refused = target.ask("POST", "/v1/projects/laion/stages/a/lease", body)

    assert status == 400
    assert len(json.dumps(refused)) < 1000


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("heartbeat", {"token": "t", "text": "x" * 1_000_000}),
        ("fail", {"token": "t", "reason": "x" * 1_000_000}),
        ("flag", {"token": "t", "reason": "x" * 1_000_000}),
        ("complete", {"token": "x" * 1_000_000}),
        ("release", "x" * 1_000_000),
    ],
)
def test_a_word_of_a_million_letters_is_refused(target: Target, what: str, said: object) -> None:
    status, refused = target.ask("POST", f"/v1/tasks/{what}", [said])

    assert status == 400
    assert len(json.dumps(refused)) < 1000


def test_an_output_of_a_million_letters_is_kept_and_shown_in_short(target: Target) -> None:
    (task,) = told(target, "projects/laion/stages/b/lease", {"worker": "w", "nickname": "long"})
    told(target, "tasks/complete", [{"token": task["token"], "output": "\x1b[31m" + "x" * 1_000_000}])

    history = dcengine.Project("laion").job(task["number"]).history()

    assert len(history[-1].output) == 1_000_005
    check_terminal(repr(history))
    assert len(repr(history)) < 5000
    assert len(history._repr_html_()) < 10_000


@pytest.mark.parametrize(
    "path", ["/", "/nowhere/<script>alert(1)</script>", "/v1/jobs/<script>", "/v1/projects/%3Cscript%3E"]
)
def test_no_page_repeats_what_its_address_says(target: Target, path: str) -> None:
    (reply,) = target.say(target.request("GET", path.replace("<", "%3C").replace(">", "%3E")))

    assert b"<script>" not in reply.body or "application/json" in reply.head
    assert "nosniff" in reply.head
    assert "default-src 'self'" in reply.head
