"""``--session`` and values that stay where they are, in a real kernel."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

import dcengine
from tests.engines import forget_engines, serving
from tests.kernels import Kernel, kernel, plain


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an engine with two workers."""
    with serving(tmp_path_factory.mktemp("engine") / "jobs.db", "--worker-tags", "plain;gpu") as (_, told):
        yield str(told["url"])


@pytest.fixture(scope="module")
def shared(engine: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    with kernel(tmp_path_factory.mktemp("notebook"), DCENGINE_URL=engine) as running:
        assert running.execute("%load_ext dcengine\nimport dcengine").reply["status"] == "ok"
        yield running


@pytest.fixture
def notebook(shared: Kernel) -> Kernel:
    assert shared.execute("%reset -f\nimport dcengine").reply["status"] == "ok"
    return shared


def said(notebook: Kernel, code: str) -> str:
    """Return what a cell that has to succeed prints."""
    cell = notebook.execute(code)
    assert cell.reply["status"] == "ok", cell.error
    return cell.text()


def sessions_of(engine: str) -> dict[str, str]:
    dcengine.connect(engine)
    try:
        return {one.name: one.state for one in dcengine.sessions()}
    finally:
        forget_engines()


# ---- --session -----------------------------------------------------------------------------


def test_names_environment_and_folder_stay_between_the_cells_of_a_session(notebook: Kernel) -> None:
    said(
        notebook,
        "%%distribute --session s1\nimport os, threading, sys\nlock = threading.Lock()\nhits = []\nos.chdir('/')\n"
        "os.environ['STAYS'] = 'yes'\npid = os.getpid()\ndef add(x):\n    with lock: hits.append(x)",
    )
    said(notebook, "%%distribute --session s1\nadd(1); add(2)")

    told = said(
        notebook, "%%distribute --session s1\nprint(hits, os.getcwd(), os.environ['STAYS'], os.getpid() == pid)"
    )
    assert told == "[1, 2] / yes True\n"
    assert said(notebook, "print(hits)") == "[]\n"
    other = said(notebook, "%%distribute --session s2\nimport os\nprint(os.environ.get('STAYS'), os.getpid() == pid)")
    assert other == "None False\n"


def test_a_name_travels_again_once_the_notebook_gives_it_another_value(notebook: Kernel) -> None:
    said(notebook, "%%distribute --session s3\nxs = [1]")
    said(notebook, "%%distribute --session s3\nxs.append(2)")
    assert said(notebook, "%%distribute --session s3\nprint(xs)") == "[1, 2]\n"

    notebook.execute("xs = [7]")
    assert said(notebook, "%%distribute --session s3\nprint(xs)") == "[7]\n"
    notebook.execute("%%distribute --session s3\nxs.append(8)\n1 / 0")
    assert said(notebook, "%%distribute --session s3\nprint(xs)") == "[7, 8]\n"


def test_a_session_may_have_names_that_this_notebook_never_had(notebook: Kernel) -> None:
    said(notebook, "%%distribute --session s4 --out a\na = 1\nb = 2")

    assert said(notebook, "%%distribute --session s4\nprint(a + b)") == "3\n"
    missing = notebook.execute("%%distribute --session s4\nprint(never)")
    assert missing.reply["ename"] == "NameError"


def test_a_session_that_is_lost_is_told_once_and_then_begins_anew(notebook: Kernel, engine: str) -> None:
    said(notebook, "x = 5")
    said(notebook, "%%distribute --session s5\nimport os, signal\ny = x + 1")
    notebook.execute("%%distribute --session s5\nos.kill(os.getpid(), 9)")

    lost = notebook.execute("%%distribute --session s5\nprint(x, y)")
    assert lost.reply["ename"] == "SessionLost"
    assert "session 's5' is lost" in lost.reply["evalue"]
    assert said(notebook, "%%distribute --session s5\nprint(x, y)") == "5 6\n"  # what came home travels again
    assert said(notebook, "%distribute end s5") == "session s5 has ended\n"
    assert said(notebook, "%distribute end s5") == "there is no session s5\n"
    assert said(notebook, "%%distribute --session s5\nprint(x, y)") == "5 6\n"


def test_bad_names_of_sessions_are_refused(notebook: Kernel) -> None:
    for options in ("--session ''", "--session a/b", "--keep-above much", "--session x --each i in [1]"):
        cell = notebook.execute(f"%%distribute {options}\n1")
        assert cell.reply["ename"] in ("InvalidOption", "InvalidCell"), cell.reply


# ---- what stays ----------------------------------------------------------------------------


def test_what_cannot_travel_stays_as_a_reference_and_cells_that_use_it_run_there(notebook: Kernel, engine: str) -> None:
    cell = notebook.execute("%%distribute\nimport threading, os\nlock = threading.Lock()\nok, home = 1, os.getpid()")
    assert re.fullmatch(
        r"lock stays on worker w\d in session unnamed-\w+: it cannot travel: a lock: cannot pickle '_thread.lock' "
        r"object. Cells that use it run there\n",
        cell.text("stderr"),
    )
    assert re.fullmatch(r"<lock: a _thread.lock, on worker w\d in session unnamed-\w+; it cannot travel: .*>\n",
                        said(notebook, "print(repr(lock))"))  # fmt: skip

    used = "%%distribute\nimport os\nwith {0}:\n    print({0}.locked(), os.getpid() == home)"
    assert said(notebook, used.format("lock")) == "True True\n"
    said(notebook, "both = [lock, ok]\ndef inside(): return lock.locked()")
    assert said(notebook, "%%distribute\nprint(both[0].locked(), inside())") == "False False\n"
    name = said(notebook, "print(lock._session)").strip()
    assert sessions_of(engine)[name] == "idle"
    said(notebook, "del lock, both, inside")
    said(notebook, "%%distribute\n1;")
    assert name not in sessions_of(engine)


def test_using_what_stays_here_says_what_to_do(notebook: Kernel) -> None:
    notebook.execute("%%distribute\nimport threading\nlock = threading.Lock()")

    for use in (
        "lock.acquire()",
        "len(lock)",
        "lock()",
        "lock[0]",
        "1 + lock",
        "bool(lock)",
        "dcengine.submit(id, lock)",
    ):
        refused = notebook.execute(use)
        assert refused.reply["ename"] in ("StaysRemote", "NotPicklable"), refused.reply
        assert "%%distribute cell" in refused.reply["evalue"], use
        assert refused.reply["ename"] == "NotPicklable" or "references.py" not in plain(refused.error), use
    fetched = notebook.execute("lock.fetch()")
    assert fetched.reply["ename"] == "NotPicklable"
    refused = notebook.execute("%%distribute --each i in [1]\nlock")
    assert refused.reply["ename"] == "InvalidCell"
    assert "lock stays in session" in refused.reply["evalue"]


def test_what_is_too_big_stays_and_can_be_fetched(notebook: Kernel) -> None:
    cell = notebook.execute(
        "%%distribute --keep-above 1MiB\nbig = bytes(3 << 20)\nsmall = [bytes(1 << 19)]\nmany = list(range(10**6))"
    )
    assert "big stays on worker" in cell.text("stderr")
    assert "it is too big: 3.0 MiB, the limit is 1.0 MiB (--keep-above)" in cell.text("stderr")
    assert "many stays on worker" in cell.text("stderr")

    assert said(notebook, "print(len(small[0]), type(big).__name__)") == f"{1 << 19} RemoteReference\n"
    assert said(notebook, "%%distribute\nprint(len(big), sum(many[:4]))") == f"{3 << 20} 6\n"
    assert said(notebook, "print(len(big.fetch()), len(many.fetch()))") == f"{3 << 20} {10**6}\n"
    out = notebook.execute("%%distribute --out big --keep-above 1MiB\nbig = bytes(2 << 20)")
    assert out.text("stderr") == ""
    assert said(notebook, "print(len(big))") == f"{2 << 20}\n"


def test_values_of_two_sessions_do_not_meet_in_one_cell(notebook: Kernel) -> None:
    notebook.execute("%%distribute\nimport threading\none = threading.Lock()")
    notebook.execute("%%distribute\nimport threading\ntwo = threading.Lock()")

    for cell in ("%%distribute\none, two", "%%distribute --session mine\none", "%%distribute\n[x for x in pair]"):
        notebook.execute("pair = [one, two]")
        refused = notebook.execute(cell)
        assert refused.reply["ename"] == "InvalidCell", refused.reply
        assert "stays in session" in refused.reply["evalue"]


def test_a_reference_to_what_is_lost_says_so(notebook: Kernel, engine: str) -> None:
    notebook.execute("%%distribute\nimport threading, os\nlock = threading.Lock()")
    notebook.execute("%%distribute\nlock\nos.kill(os.getpid(), 9)")

    for _ in range(2):  # it is gone for good: nothing can be made anew under its name
        lost = notebook.execute("%%distribute\nprint(lock.locked())")
        assert lost.reply["ename"] == "SessionLost", lost.reply
