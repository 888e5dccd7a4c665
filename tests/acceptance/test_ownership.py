"""Which engine a call uses, who owns the file, and what happens when the owner dies."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

import dcengine
from dcengine.owner import find_owner, lock_path
from tests.engines import embedded, end, environment, eventually, serving, start_serve


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder whose background engine, if one is started, is ended afterwards."""
    yield tmp_path
    owner = find_owner(tmp_path / "dcengine.db")
    if owner is not None and owner.pid != os.getpid():
        process = psutil.Process(owner.pid)
        process.terminate()
        process.wait(20)


def start(folder: Path, code: str, **more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], cwd=folder, env=environment(**more), text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def run(folder: Path, code: str, **more: str) -> str:
    process = start(folder, code, **more)
    out, err = process.communicate(timeout=90)
    assert process.returncode == 0, out + err
    return out


SUBMIT_AND_TELL = """
import dcengine
from dcengine.api import current
print(dcengine.submit(len, [1, 2, 3]).result(60), current().call("status").pid)
"""


def test_without_an_engine_one_is_started_in_the_background_and_shared(folder: Path) -> None:
    first = run(folder, SUBMIT_AND_TELL).split()
    second = run(folder, SUBMIT_AND_TELL).split()

    assert first == second
    assert first[0] == "3"
    assert find_owner(folder / "dcengine.db").pid == int(first[1])  # type: ignore[union-attr]


def test_files_beside_a_script_that_are_named_like_pythons_own_modules_do_no_harm(folder: Path) -> None:
    for name in ("asyncio", "json", "random", "re"):
        (folder / f"{name}.py").write_text("raise SystemExit('taken for the real one')")

    # `-P` or its like, as a script elsewhere has it: the program itself must find the real ones.
    script = f"import sys; sys.path[:] = filter(None, sys.path)\n{SUBMIT_AND_TELL}"
    assert run(folder, script).split()[0] == "3"


def test_code_on_a_worker_finds_modules_beside_the_notebook(folder: Path) -> None:
    (folder / "beside.py").write_text("ANSWER = 42")

    told = run(
        folder,
        """
        import dcengine
        def look():
            import beside
            return beside.ANSWER
        print(dcengine.submit(look).result(60))
        """,
    )

    assert told.strip() == "42"


def test_two_processes_that_start_at_once_share_one_engine(folder: Path) -> None:
    both = [start(folder, SUBMIT_AND_TELL) for _ in range(2)]
    told = [process.communicate(timeout=90) for process in both]

    assert told[0][0] == told[1][0] != "", told


def test_a_script_may_end_and_its_job_goes_on(folder: Path) -> None:
    id = run(
        folder,
        """
        import dcengine, time, pathlib
        def work():
            while not pathlib.Path("go").exists():
                time.sleep(0.01)
            return "done"
        print(dcengine.submit(work).id)
        """,
    )
    (folder / "go").touch()

    assert run(folder, f"import dcengine; print(dcengine.job({id}).result(60))").strip() == "done"


def test_when_the_owner_is_killed_whoever_waits_starts_it_anew(folder: Path) -> None:
    waiter = start(
        folder,
        """
        import dcengine, time, pathlib
        from dcengine.api import current
        def work():
            pathlib.Path("began").touch()
            while not pathlib.Path("go").exists():
                time.sleep(0.01)
            return "done"
        handle = dcengine.submit(work)
        print(current().call("status").pid, flush=True)
        print(handle.result(90), current().call("status").pid)
        """,
    )
    try:
        assert waiter.stdout is not None
        owner = int(waiter.stdout.readline())
        eventually((folder / "began").exists)
        os.kill(owner, signal.SIGKILL)
        (folder / "go").touch()
        out, err = waiter.communicate(timeout=90)
    finally:
        end(waiter)

    result, successor = out.split()
    assert result == "done", err
    assert int(successor) != owner


def test_a_client_that_is_killed_does_not_hurt_the_engine(folder: Path) -> None:
    client = start(
        folder,
        """
        import dcengine, time
        from dcengine.api import current
        print(current().call("status").pid, dcengine.map(time.sleep, [0.001] * 500).id, flush=True)
        time.sleep(600)
        """,
    )
    try:
        assert client.stdout is not None
        owner, batch = map(int, client.stdout.readline().split())
        client.kill()
    finally:
        end(client)

    told = run(
        folder,
        f"""
        import dcengine
        from dcengine.api import current
        print(dcengine.batch({batch}).wait(60).succeeded, current().call("status").pid)
        """,
    )
    assert told.split() == ["500", str(owner)]


def test_an_engine_embedded_elsewhere_is_found_through_its_file(folder: Path) -> None:
    with embedded(folder / "dcengine.db", workers=1):
        told = run(folder, SUBMIT_AND_TELL).split()

    assert told == ["3", str(os.getpid())]


def test_when_an_embedding_process_dies_its_clients_go_on_with_a_new_engine(folder: Path) -> None:
    host = start(
        folder,
        """
        import dcengine, time
        dcengine.Engine("dcengine.db", workers=1).start()
        print("ready", flush=True)
        time.sleep(600)
        """,
    )
    client = start(
        folder,
        """
        import dcengine, sys
        print(dcengine.submit(len, [1]).result(60), flush=True)
        sys.stdin.readline()
        print(dcengine.submit(len, [1, 2]).result(60), flush=True)
        """,
    )
    try:
        assert host.stdout is not None
        assert client.stdout is not None
        assert host.stdout.readline() == "ready\n"
        assert client.stdout.readline() == "1\n"
        host.kill()
        host.wait(10)
        out, err = client.communicate("\n", timeout=90)
    finally:
        end(host)
        end(client)

    assert out == "2\n", err


def test_an_explicit_engine_on_an_owned_file_is_refused_and_names_the_owner(tmp_path: Path) -> None:
    db = tmp_path / "work.db"
    with embedded(db, workers=1, processes=False) as engine:
        second = start_serve(db, workers=0)
        assert second.wait(60) == 75
        end(second)
        with pytest.raises(dcengine.DatabaseOwned, match=str(os.getpid())) as refused:
            dcengine.Engine(db, workers=1).start()

        assert refused.value.url in engine.url
        assert "close() it first" in str(refused.value)
        assert dcengine.submit(len, "ab").result(30) == 2


def test_a_named_engine_is_used_before_the_one_of_the_folder(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "other.db"
    with serving(elsewhere, workers=1) as (process, told):
        by_variable = run(folder, SUBMIT_AND_TELL, DCENGINE_URL=str(told["url"]))
        by_call = run(folder, f"import dcengine; dcengine.connect({told['url']!r})\n{SUBMIT_AND_TELL}")

    assert by_variable.split()[1] == by_call.split()[1] == str(process.pid)
    assert not (folder / "dcengine.db").exists()


def test_a_program_may_name_the_file_whose_engine_it_uses(tmp_path: Path) -> None:
    with serving(tmp_path / "other.db", workers=0) as (_, told):
        code = """
        import dcengine
        dcengine.use_db("other.db")
        job = dcengine.submit(len, "abc")
        print(job.id, isinstance(job.status(), dcengine.JobStatus))
        """
        assert run(tmp_path, code, DCENGINE_URL="http://127.0.0.1:9").split() == ["1", "True"]
        assert find_owner(tmp_path / "other.db").pid == told["pid"]  # type: ignore[union-attr]
    assert not (tmp_path / "dcengine.db").exists()


def test_a_choice_is_forgotten_by_connecting_to_none_and_kept_where_connecting_fails(tmp_path: Path) -> None:
    with serving(tmp_path / "other.db", workers=0), serving(tmp_path / "dcengine.db", workers=0):
        code = """
        import dcengine, dcengine.api
        dcengine.use_db("other.db")
        print(dcengine.api.current().file)
        try:
            dcengine.connect("http://127.0.0.1:9/?token=any")
        except dcengine.EngineUnreachable:
            print(dcengine.api.current().file)
        dcengine.connect(None)
        print(dcengine.api.current().file)
        """
        other, after_failing, after_none = run(tmp_path, code).split()
    assert after_failing == other != after_none


def test_a_wrong_token_and_a_dead_address_are_told_at_once(tmp_path: Path) -> None:
    with embedded(tmp_path / "work.db", workers=0, processes=False) as engine:
        url = engine.url.partition("?")[0]
        code = f"""
        import dcengine
        for url, token in [({url!r}, "wrong"), ("http://127.0.0.1:9", "any")]:
            try:
                dcengine.connect(url, token)
            except dcengine.DcengineError as error:
                print(type(error).__name__)
        """
        assert run(tmp_path, code).split() == ["AccessDenied", "EngineUnreachable"]


def test_the_token_stays_when_the_engine_is_started_again(tmp_path: Path) -> None:
    db = tmp_path / "work.db"
    with embedded(db, workers=0, processes=False) as first:
        token = first.token
    with embedded(db, workers=0, processes=False) as second:
        assert second.token == token


def test_what_the_owner_writes_is_for_its_user_alone(tmp_path: Path) -> None:
    db = tmp_path / "work.db"
    with embedded(db, workers=0, processes=False):
        assert lock_path(db).stat().st_mode & 0o777 == 0o600
        assert db.stat().st_mode & 0o777 == 0o600


def test_an_idle_background_engine_ends_by_itself(tmp_path: Path) -> None:
    with serving(tmp_path / "work.db", "--idle-exit", "1", workers=0) as (process, _):
        assert process.wait(30) == 0


def test_an_engine_whose_lock_was_stolen_stops_writing(tmp_path: Path) -> None:
    db = tmp_path / "work.db"
    with serving(db, workers=0) as (first, told):
        lock_path(db).unlink()  # what a careless clean-up does
        with embedded(db, workers=0, processes=False):
            code = f"import dcengine; dcengine.connect({told['url']!r}); dcengine.submit(len, 'a')"
            refused = subprocess.run(
                [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, timeout=60
            )
            # It may have noticed by itself, and ended, before it was asked.
            assert re.search("OwnershipLost|EngineUnreachable", refused.stderr), refused.stderr
            assert dcengine.submit(len, "a").id == 1
            assert first.wait(30) is not None
