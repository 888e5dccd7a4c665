"""Projects as TOML files and titles say them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from dcengine import codec, pipelines
from dcengine.errors import InvalidOption
from dcengine.verbs import ProjectSpec

STEPS = """
def split(name): return [name]
def see(part): return part
def join(parts): return parts
NUMBER = 5
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "pipeline_steps.py").write_text(STEPS)
    (tmp_path / "broken_steps.py").write_text("import no_such_module_at_all")
    monkeypatch.delitem(sys.modules, "pipeline_steps", raising=False)
    return tmp_path


def read(folder: Path, text: str) -> ProjectSpec:
    file = folder / "pipeline.toml"
    file.write_text(text)
    return pipelines.read(file)


def stage(name: str, **more: str) -> str:
    lines = {"function": '"pipeline_steps:see"', **more}
    if "lease" in more and "function" not in more:
        del lines["function"]
    return "\n".join(["[[stage]]", f"name = {name!r}", *(f"{key} = {value}" for key, value in lines.items()), ""])


def test_a_file_says_all_that_python_can_say(folder: Path) -> None:
    spec = read(
        folder,
        """
        name = "photos"

        [[stage]]
        name = "split"
        function = "pipeline_steps:split"
        shape = "expand"
        retries = 2
        crash_retries = 0
        timeout = "10m"
        priority = 3
        back_off = 1
        back_off_limit = "1h"
        generations = 5
        paused = true

        [[stage]]
        name = "see"
        title = "GPU"
        lease = true
        tags = "gpu.memory>=16GiB"
        lease_seconds = "2h"
        votes = 5
        credit = "unit"

        [[stage]]
        name = "join"
        function = "pipeline_steps:join"
        shape = "gather"
        on_failed_part = "skip"
        """,
    )

    split, see, join = spec.stages
    assert (spec.name, spec.submitter) != ("photos", "")
    assert split.function is not None
    assert split.function.name == "pipeline_steps.split"
    assert codec.loads(split.function.code)("x") == ["x"]
    assert (split.shape, split.retries, split.crash_retries, split.timeout, split.priority, split.is_paused) == (
        "expand", 2, 0, 600.0, 3, True,
    )  # fmt: skip
    assert (split.back_off, split.back_off_limit, split.generations) == (1.0, 3600.0, 5)
    assert (see.kind, see.title, see.tags, see.lease_seconds, see.votes, see.credit, see.function) == (
        "lease", "GPU", "gpu.memory>=16GiB", 7200.0, 5, "unit", None,
    )  # fmt: skip
    assert (join.shape, join.on_failed_part) == ("gather", "skip")


def test_functions_are_found_beside_the_file_and_the_path_stays_as_it_was(folder: Path) -> None:
    before = list(sys.path)

    read(folder, 'name = "p"\n' + stage("a"))

    assert sys.path == before


@pytest.mark.parametrize(
    ("stages", "order"),
    [
        ([("a", None), ("b", None), ("c", None)], "abc"),
        ([("c", "b"), ("b", "a"), ("a", None)], "abc"),
        ([("b", "a"), ("a", None), ("c", "b")], "abc"),
        ([("a", None), ("c", "b"), ("b", "a")], "abc"),
        ([("a", None)], "a"),
    ],
)
def test_stages_stand_in_the_order_of_their_afters_else_in_that_of_the_file(
    folder: Path, stages: list[tuple[str, str | None]], order: str
) -> None:
    text = "".join(stage(name, **({} if after is None else {"after": repr(after)})) for name, after in stages)

    assert "".join(each.name for each in read(folder, 'name = "p"\n' + text).stages) == order


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "name in .*pipeline.toml cannot be None"),
        ("name = 5", "name in .* cannot be 5"),
        ('name = "a/b"\n' + stage("a"), "name in .* cannot be 'a/b'"),
        ('name = "p"', "stage in .* cannot be missing"),
        ('name = "p"\nstage = 5', r"expected one \[\[stage\]\] or more"),
        ('name = "p"\nstage = []', r"expected one \[\[stage\]\] or more"),
        ("name = p\n", "cannot be read .*line 1"),
        ('name = "p"\nstages = 1', "a key of .* cannot be 'stages'; expected stage$"),
        ('name = "p"\n' + stage("a", retrys="2"), "a key of stage 1 in .* cannot be 'retrys'; expected retries$"),
        ('name = "p"\n' + stage("a", is_paused="true"), "'is_paused'; expected paused$"),
        ('name = "p"\n[[stage]]\nfunction="m:f"', "name of stage 1 in .* cannot be None"),
        ('name = "p"\n' + stage("a") + stage("a"), "cannot be called 'a' twice"),
        (
            'name = "p"\n' + stage("a", shape='"fold"'),
            "shape of stage 'a' in .* 'fold'; expected map or expand or gath",
        ),
        ('name = "p"\n' + stage("a", lease='"yes"'), "lease of stage 'a' .* 'yes'; expected true or false"),
        ('name = "p"\n' + stage("a", retries='"2"'), "retries of stage 'a' cannot be '2'; expected a whole number"),
        ('name = "p"\n' + stage("a", timeout='"soon"'), "timeout of stage 'a' cannot be 'soon'"),
        ('name = "p"\n' + stage("a", on_failed_part='"skip"'), "on_failed_part of stage 'a' .* it is for a gather"),
        ('name = "p"\n' + stage("a", after='"b"') + stage("b", after='"a"'), "a circle: 'a' after 'b' after 'a'"),
        ('name = "p"\n' + stage("a", after='"a"'), "a circle: 'a' after 'a'"),
        (
            'name = "p"\n' + stage("x") + stage("a", after='"c"') + stage("b", after='"a"') + stage("c", after='"b"'),
            "a circle: 'a' after 'c' after 'b' after 'a'",
        ),
        ('name = "p"\n' + stage("a") + stage("b", after='"a"') + stage("c", after='"a"'), "followed by 'b' and 'c'"),
        ('name = "p"\n' + stage("a") + stage("b", after='"A"'), "after of stage 'b' in .* cannot be 'A'; expected a"),
        ('name = "p"\n' + stage("a") + stage("b", after="5"), "after of stage 'b' .* expected the name of another"),
        ('name = "p"\n' + stage("a", shape='"expand"'), "the expand 'a' cannot be the last stage"),
        ('name = "p"\n' + stage("a", shape='"expand"', lease="true") + stage("b"), "the expand 'a' cannot be a lease"),
        ('name = "p"\n' + stage("b") + stage("a", shape='"gather"', lease="true"), "the gather 'a' cannot be a lease"),
        ('name = "p"\n' + stage("a", lease="true", function='"m:f"'), "function of stage 'a' .* cannot be given"),
        ('name = "p"\n[[stage]]\nname="a"', "function of stage 'a' .* cannot be missing; expected 'module:name', or"),
        ('name = "p"\n' + stage("a", function='"see"'), "cannot be 'see'; expected 'module:name'"),
        ('name = "p"\n' + stage("a", function="5"), "cannot be 5; expected 'module:name'"),
        ('name = "p"\n' + stage("a", function='"no_module:f"'), "No module named 'no_module'"),
        ('name = "p"\n' + stage("a", function='"broken_steps:f"'), "No module named 'no_such_module_at_all'"),
        ('name = "p"\n' + stage("a", function='"pipeline_steps:sea"'), "has no attribute 'sea'"),
        ('name = "p"\n' + stage("a", function='"pipeline_steps:NUMBER"'), r"\(a int\); expected a function"),
    ],
)
def test_what_a_file_says_wrong_is_named(folder: Path, text: str, complaint: str) -> None:
    with pytest.raises(InvalidOption, match=complaint):
        read(folder, text)


def test_a_file_that_cannot_be_read_is_named(folder: Path) -> None:
    (folder / "latin.toml").write_bytes(b'name = "\xff"')
    for file in ("nobody.toml", "latin.toml", "."):
        with pytest.raises(InvalidOption, match="cannot be read"):
            pipelines.read(folder / file)


def test_titles_become_lease_stages_named_by_letters() -> None:
    spec = pipelines.leased("laion", ["CPU", " GPU", "Pack"])

    assert [(each.name, each.title, each.kind, each.votes) for each in spec.stages] == [
        ("a", "CPU", "lease", 5), ("b", "GPU", "lease", 5), ("c", "Pack", "lease", 5),
    ]  # fmt: skip
    assert len(pipelines.leased("laion", ["x"] * 26, votes=1).stages) == 26


@pytest.mark.parametrize("titles", [[], [""], ["CPU", " "], ["x"] * 27])
def test_titles_that_cannot_be_are_refused(titles: list[str]) -> None:
    with pytest.raises(InvalidOption, match="the stages cannot be"):
        pipelines.leased("laion", titles)
