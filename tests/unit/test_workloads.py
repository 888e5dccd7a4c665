"""What a workload can be asked, how it looks in Python, and what keeps one from being used."""

from __future__ import annotations

import inspect
import io
import pickle
import pydoc
from fractions import Fraction
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from IPython.core.completer import provisionalcompleter
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

import dcengine
from dcengine import workloads
from dcengine.errors import InvalidOption, WorkloadBroken
from dcengine.workloads import File, name_for
from dcengine_magics.views.formatters import register
from tests.engines import embedded
from tests.unit import toys
from tests.unit.toys import OFFERED, Mood, Parameters

PARTS = {"parts": b"wood"}


@pytest.fixture(autouse=True)
def offered(monkeypatch: pytest.MonkeyPatch) -> None:
    """What packages offer: toys."""
    entries = [EntryPoint(name, value, workloads.GROUP) for name, value in OFFERED.items()]

    def entry_points(*, group: str, name: str | None = None) -> list[EntryPoint]:
        return [entry for entry in entries if entry.group == group and name in (None, entry.name)]

    monkeypatch.setattr(workloads, "entry_points", entry_points)


def taken(**given: Any) -> Parameters:
    checked: Parameters = toys.toy().checked(PARTS | given)
    return checked


def refusal(**given: Any) -> str:
    with pytest.raises(InvalidOption) as refused:
        toys.toy().checked(PARTS | given)
    return str(refused.value)


# ---- values --------------------------------------------------------------------------------


def test_a_file_is_given_as_a_path_as_its_content_or_as_something_that_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "wood.txt"
    path.write_bytes(b"wood")

    with path.open("rb") as opened:
        parts = taken(parts=[str(path), path, opened, File("wood.txt", b"wood")]).parts
    bare = taken(parts=[b"wood", bytearray(b"wood"), memoryview(b"wood"), io.BytesIO(b"wood")]).parts
    uploaded = taken(parts=({"name": "wood.txt", "content": memoryview(b"wood"), "size": 4},)).parts  # by ipywidgets

    assert set(parts) == set(uploaded) == {File("wood.txt", b"wood")}
    assert set(bare) == {File("file", b"wood")}


def test_a_file_that_cannot_be_read_is_named_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("a")

    assert refusal(parts="nowhere.txt") == (
        "parts cannot be 'nowhere.txt' (No such file or directory); expected one that can be read"
    )
    assert "Is a directory" in refusal(parts=tmp_path)
    assert "null byte" in refusal(parts="a\0b")
    with (tmp_path / "text").open() as opened:
        assert "mode 'rb'" in refusal(parts=opened)


@pytest.mark.parametrize("name", ["", "..", "../../etc/passwd", "a/b", "a\\b", "a\nb", "x" * 256, 5])
def test_the_name_of_a_file_leads_nowhere(name: Any) -> None:
    with pytest.raises(InvalidOption, match="without folders"):
        File(name, b"")
    assert "parts cannot be" in refusal(parts=[{"name": name, "content": b""}])


def test_a_file_shows_its_size_and_not_its_content() -> None:
    assert repr(File("a.blend", b"x" * 5000)) == "<file 'a.blend': 5,000 bytes>"
    assert pickle.loads(pickle.dumps(File("a", b"b"))) == File("a", b"b")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"size": "x"}, "size cannot be 'x'; expected a whole number, at least 1, at most 9, or None"),
        ({"size": 0}, "size cannot be 0; expected a whole number, at least 1, at most 9, or None"),
        ({"size": True}, "size cannot be True; expected a whole number, at least 1, at most 9, or None"),
        ({"size": 1.5}, "size cannot be 1.5; expected a whole number, at least 1, at most 9, or None"),
        ({"speed": "fast"}, "speed cannot be 'fast'; expected a number, above 0"),
        ({"speed": float("nan")}, "speed cannot be nan; expected a number, above 0"),
        ({"speed": float("inf")}, "speed cannot be inf; expected a number, above 0"),
        ({"colour": "green"}, "colour cannot be 'green'; expected one of 'red', 'blue'"),
        ({"mood": "odd"}, "mood cannot be 'odd'; expected one of 'glad', 'sad'"),
        ({"wheels": "yes"}, "wheels cannot be 'yes'; expected True or False"),
        ({"label": "x" * 6}, "label cannot be 'xxxxxx'; expected text of at most 5 letters"),
        ({"label": "\ud800"}, "label cannot be '\\ud800'; expected text of at most 5 letters"),
        ({"label": b"x"}, "label cannot be b'x'; expected text of at most 5 letters"),
        ({"names": list("abc")}, "names cannot be ['a', 'b', 'c']; expected a list of at most 2 of them, each text"),
        ({"names": [1]}, "names cannot be [1]; expected a list of at most 2 of them, each text"),
        ({"parts": []}, "parts cannot be []; expected a list of at least 1 of them, each a file: its path, "
                        "its content as bytes, or something opened in mode 'rb'"),
        ({"size": [[0] * 1000] * 9}, "size cannot be [[0, 0, "),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named_with_what_would(given: dict[str, Any], said: str) -> None:
    assert refusal(**given).startswith(said)
    assert len(refusal(**given)) < 300


def test_values_of_other_libraries_are_what_they_look_like() -> None:
    asked = taken(size=np.int64(3), speed=np.float32(0.5), names=np.array(["a", "b"]), label=Path("a/b"), mood="glad")

    assert (asked.size, asked.speed, asked.names, asked.label) == (3, 0.5, ["a", "b"], "a/b")
    assert asked.mood is taken(mood=Mood.GLAD).mood
    assert type(asked.size) is int
    assert taken(speed=Fraction(1, 2)).speed == 0.5


def test_one_value_stands_for_a_list_of_it() -> None:
    assert taken(names="ada").names == ["ada"]
    assert taken(names=(name for name in "ab")).names == ["a", "b"]


def test_a_file_of_a_path_may_have_a_name_that_is_no_text() -> None:
    assert taken(out="caf\udce9").out == "caf\udce9"  # as Python reads one in Latin-1


def test_a_misspelt_parameter_is_told_the_nearest_and_one_without_a_like_all_of_them() -> None:
    assert refusal(spede=1) == "a parameter of toy cannot be 'spede'; expected speed"
    assert refusal(zzz=1).endswith("expected parts, size, speed, colour, mood, names, wheels, label, out")


def test_a_parameter_that_is_left_out_is_described() -> None:
    with pytest.raises(InvalidOption, match=r"^parts cannot be left out; expected a list .*\. What it is made of\.$"):
        toys.toy().checked({})


def test_what_the_parameters_say_of_each_other_is_told() -> None:
    assert refusal(mood="sad") == "the parameters of toy cannot be these; expected glad ones, where there are wheels"


PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.fractions()
ANYTHING = st.recursive(
    PLAIN | st.complex_numbers(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from([*Parameters.__struct_fields__, "more"]), ANYTHING))
def test_whatever_is_given_is_taken_or_refused_by_an_error_of_ours(given: dict[str, Any]) -> None:
    try:
        asked = toys.toy().checked(given)
    except InvalidOption:
        return
    assert isinstance(asked, Parameters)


def test_fields_say_what_a_form_needs_to_know() -> None:
    fields = {field.name: field for field in toys.toy().fields}

    kinds: list[Any] = [File, int, float, Literal["red", "blue"], Mood, str, bool, str, str]
    assert [field.kind for field in fields.values()] == kinds
    assert [name for name, field in fields.items() if field.is_many] == ["parts", "names"]
    assert [name for name, field in fields.items() if field.is_needed] == ["parts"]
    assert [name for name, field in fields.items() if field.is_local] == ["out"]
    assert fields["colour"].choices == ("red", "blue")
    assert fields["mood"].choices == ("glad", "sad")
    assert fields["size"].told == "How large. At least 1, at most 9."
    assert fields["wheels"].told == "Whether it has some."


# ---- names of projects ---------------------------------------------------------------------


def test_the_same_request_has_the_same_name_wherever_its_results_go() -> None:
    name = name_for("toy", taken(out="a"), about="My scene (2).blend")

    assert name == name_for("toy", taken(out="b"), about="My scene (2).blend")
    assert name.startswith("toy-My-scene-2-blend-")
    other = [taken(size=3), taken(parts=b"iron"), taken(parts=[b"wood", b"wood"]), taken(mood="sad", wheels=False)]
    assert len({name_for("toy", each) for each in [taken(), *other]}) == 5


# ---- in Python -----------------------------------------------------------------------------


def test_a_workload_looks_like_a_function_of_its_parameters() -> None:
    made = dcengine.workloads.toy

    told = pydoc.plain(pydoc.render_doc(made))
    assert "toy(parts: tuple[dcengine.parameters.File, ...], *, size: " in told
    assert "speed: float = 2.0" in told
    assert "Make a toy." in told
    assert "size: How large. At least 1, at most 9." in told
    assert inspect.signature(made).return_annotation is workloads.Run


def test_the_tab_key_knows_workloads_and_their_parameters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    settings = Config()
    settings.HistoryManager.enabled = False
    shell = InteractiveShell(config=settings)
    shell.user_ns["dcengine"] = dcengine
    with provisionalcompleter():
        found = {
            text: {each.text for each in shell.Completer.completions(text, len(text))}
            for text in ("dcengine.workloads.", "dcengine.workloads.toy(si")
        }

    assert {"toy", "gone", "start", "File"} <= {each.removeprefix(".") for each in found["dcengine.workloads."]}
    assert "hashlib" not in {each.removeprefix(".") for each in found["dcengine.workloads."]}
    assert "size=" in found["dcengine.workloads.toy(si"]


def test_a_run_is_shown_as_its_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    settings = Config()
    settings.HistoryManager.enabled = False
    shell = InteractiveShell(config=settings)
    register(shell)

    with embedded(tmp_path / "work.db", processes=False):
        run = dcengine.workloads.toy(b"wood", out=tmp_path / "toy")
        run.wait(20)
        shown, _ = shell.display_formatter.format(run)
        of_project, _ = shell.display_formatter.format(run.project)

    assert shown["text/html"] == of_project["text/html"]
    assert shown["text/plain"] == of_project["text/plain"]
    assert "Glue it" in shown["text/html"]


def test_a_run_tells_how_far_it_is_and_what_came_of_it(tmp_path: Path) -> None:
    with embedded(tmp_path / "work.db", processes=False):
        run = dcengine.workloads.toy([b"wood", b"iron"], out=tmp_path / "toy")

        assert run.wait(20) is run
        assert run.results() == [b"WOOD", b"IRON"]
        assert run.save() == [tmp_path / "toy"]
        assert (tmp_path / "toy").read_bytes() == b"WOODIRON"
        assert (run.done(), run.progress.succeeded, run.cancel()) == (True, 2, 0)
        assert repr(run) == f"<dcengine toy: project {run.project.name!r}>"


def test_a_run_raises_the_error_of_the_job_that_failed_and_the_same_request_tries_again(tmp_path: Path) -> None:
    with embedded(tmp_path / "work.db", processes=False):
        for tries in (1, 2):
            run = dcengine.workloads.toy([b"wood", b"broken"], out=tmp_path / "toy")
            with pytest.raises(ArithmeticError, match="the glue does not hold"):
                run.wait(20) if tries == 1 else run.save(20)
            failed = [len(run.project.job(number).history()[0].tries) for number in (1, 2)]
            assert failed == [0, tries]
    assert not (tmp_path / "toy").exists()


def test_only_the_first_parameter_goes_without_its_name() -> None:
    for values, named in (((b"a", 3), {}), ((b"a",), {"parts": b"b"})):
        with pytest.raises(InvalidOption, match="expected parts and the others by their names"):
            dcengine.workloads.toy(*values, **named)
    with pytest.raises(InvalidOption, match="expected size"):
        dcengine.workloads.toy(b"a", sise=3)


def test_a_name_that_nobody_offers_is_no_attribute_and_no_workload() -> None:
    assert not hasattr(workloads, "tyo")
    with pytest.raises(InvalidOption, match=r"^the workload cannot be 'tyo'; expected one of those installed: toy$"):
        workloads.start("tyo")


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("gone", "ModuleNotFoundError: No module named 'nothing'"),
        ("reserved", "its parameter 'wait' has the name of an option that every command has"),
        ("unfit", "its parameter 'where' has a type that no command line has"),
        ("unknown", "its parameters cannot be read"),
        ("other", "it calls itself 'toy'"),
        ("nothing", "its entry point returns None, no Workload"),
        ("raising", "LookupError: no such toy"),
        ("load", "it calls itself 'toy'"),
        ("toy-car", "it calls itself 'toy'"),
    ],
)
def test_one_that_cannot_be_used_says_why_when_it_is_called_and_the_others_go_on(name: str, problem: str) -> None:
    with pytest.raises(WorkloadBroken) as broken:
        workloads.load(name)
    if name not in ("load", "toy-car"):
        with pytest.raises(WorkloadBroken):
            getattr(workloads, name)(1)
        assert "Cannot be used" in getattr(workloads, name).__doc__

    assert problem in str(broken.value)
    assert str(pickle.loads(pickle.dumps(broken.value))) == str(broken.value)
    assert workloads.load("toy").title == "Make a toy."


@pytest.mark.parametrize("name", ["load", "toy-car", "class", "hashlib"])
def test_a_name_that_means_something_else_in_python_is_refused(name: str) -> None:
    workload = toys.toy()._replace(name=name)

    assert list(workloads._problems(name, workload)) == [
        "in dcengine.workloads its name means something else, or nothing"
    ]
