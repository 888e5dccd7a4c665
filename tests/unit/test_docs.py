"""What the pages say is true: code samples run, named tests and files are there, expressions parse."""

from __future__ import annotations

import ast
import re
import runpy
from functools import cache
from pathlib import Path

import pytest

import dcengine
from dcengine import tags
from dcengine.server.reference import as_markdown
from dcengine.server.routes import ROUTES

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
STATUS = (ROOT / "docs/status.md").read_text()
README = (ROOT / "README.md").read_text()


def code_blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def without_code(text: str) -> str:
    return re.sub(r"^```.*?^```|`[^`\n]*`", "", text, flags=re.MULTILINE | re.DOTALL)


def run_sample(number: int, folder: Path) -> None:
    """Run a sample of the readme as a script."""
    script = folder / "sample.py"
    script.write_text(code_blocks(README, "python")[number])
    runpy.run_path(str(script), run_name="__main__")


@cache
def names_of_tests(file: Path) -> set[str]:
    """Return the names of the test functions in *file*."""
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    tree = ast.parse(file.read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, functions) and node.name.startswith("test_")}


def test_the_first_sample_of_the_readme_does_what_it_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with dcengine.Engine(tmp_path / "dcengine.db", workers=2, processes=False):
        run_sample(0, tmp_path)

    first, second, third, fourth, headings, row = capsys.readouterr().out.splitlines()
    assert first == "1 42"
    assert second == "499500 1000 of 1000"
    assert third == "42"
    assert fourth == "succeeded 42"
    assert headings.split() == ["contributor", "credit", "share"]
    assert row.split()[-2:] == ["1,002", "100.0%"]


def test_the_second_sample_of_the_readme_does_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)

    run_sample(1, tmp_path)

    assert capsys.readouterr().out == "6\n"


def test_the_readme_has_no_sample_that_is_not_tested() -> None:
    assert len(code_blocks(README, "python")) == 2


def test_the_first_screen_of_the_readme_has_the_two_commands() -> None:
    screen = "\n".join(README.splitlines()[:15])

    assert "make demo" in screen
    assert "make test" in screen
    assert "](docs/images/quickstart.png)" in README


def test_every_test_that_the_status_page_names_is_there() -> None:
    named = re.findall(r"`([\w/]+\.py)::(test_\w+)`", STATUS)

    missing = [f"{file}::{name}" for file, name in named if name not in names_of_tests(ROOT / "tests" / file)]
    assert len(named) > 50
    assert missing == []


def test_every_feature_on_the_status_page_has_a_test() -> None:
    (works, _) = STATUS.split("## Not yet")
    rows = [
        line for line in works.splitlines() if line.startswith("| ") and not line.startswith(("| feature", "| what"))
    ]

    assert len(rows) > 50
    assert [row for row in rows if "::test_" not in row] == []


def test_the_page_of_http_is_what_make_docs_writes() -> None:
    assert (ROOT / "docs/http.md").read_text() == as_markdown(ROUTES)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_between_pages_leads_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", without_code(page.read_text()))

    relative = [target for target in targets if "://" not in target]
    assert [target for target in relative if not (page.parent / target).exists()] == []


def test_every_page_is_reached_from_the_readme() -> None:
    linked = {(ROOT / target).resolve() for target in re.findall(r"\]\(([^)#\s]+\.md)\)", README)}

    assert set(PAGES) - linked == {ROOT / "README.md"}


def test_every_expression_on_the_page_of_tags_parses() -> None:
    (table,) = re.findall(r"^## What a job may ask for\n(.*?)^## ", (ROOT / "docs/tags.md").read_text(), re.M | re.S)
    rows = [line for line in table.splitlines() if line.startswith("| `")]
    cells = [re.split(r"(?<!\\)\|", row)[1] for row in rows]
    expressions = [found.replace("\\|", "|") for cell in cells for found in re.findall(r"`([^`]+)`", cell)]

    assert len(expressions) > 8
    for expression in expressions:
        tags.parse(expression)


def test_every_file_in_the_tree_of_the_architecture_exists() -> None:
    (tree,) = [block for block in code_blocks((ROOT / "ARCHITECTURE.md").read_text(), "") if "engine.py" in block]

    named = set(re.findall(r"\b([a-z_]+\.py)\b", tree))
    assert len(named) > 15
    inside = ("dcengine", "dcengine/engine", "dcengine/server", "extensions/dcengine_magics", "notebooks")
    folders = [ROOT / folder for folder in (*inside, "kernel/dcengine_kernel", "kernel/dcengine_kernel/endpoint")]
    assert [name for name in sorted(named) if not any((folder / name).is_file() for folder in folders)] == []


def test_every_module_is_in_the_tree_of_the_architecture() -> None:
    (tree,) = [block for block in code_blocks((ROOT / "ARCHITECTURE.md").read_text(), "") if "engine.py" in block]

    files = [*(ROOT / "dcengine").glob("*.py"), *(ROOT / "dcengine/engine").glob("*.py")]
    modules = {path.name for path in files} - {"__main__.py", "_version.py"}
    assert sorted(name for name in modules if name not in tree) == []
