"""Each mistake as a user meets it: one paragraph that names the thing and the way out, and nothing is lost."""

from __future__ import annotations

import os
import socket
import sqlite3
import subprocess
import sys
import textwrap
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import dcengine
from dcengine.api import current
from dcengine.store import opening
from tests.engines import embedded, environment, eventually, served


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An engine for mistakes that are none of the file's."""
    with served(tmp_path_factory.mktemp("good") / "work.db", workers=1) as told:
        yield str(told["url"])


@pytest.fixture
def mountpoint(tmp_path: Path) -> Iterator[Path]:
    """A disk of sixteen megabytes."""
    point = tmp_path / "disk"
    point.mkdir()
    try:
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(point)], capture_output=True, text=True, timeout=10
        )
    except FileNotFoundError:
        pytest.skip("there is no mount command here")
    if mounted.returncode != 0:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
    yield point
    subprocess.run(["umount", str(point)], check=True, timeout=10)


def command(folder: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    return run([sys.executable, "-m", "dcengine", *arguments], folder, **more)


def script(folder: Path, code: str, **more: str) -> subprocess.CompletedProcess[str]:
    return run([sys.executable, "-c", textwrap.dedent(code)], folder, **more)


def run(line: list[str], folder: Path, **more: str) -> subprocess.CompletedProcess[str]:
    ours = {name: value for name, value in environment().items() if not name.startswith("DCENGINE_")}
    return subprocess.run(line, cwd=folder, env={**ours, **more}, capture_output=True, text=True, timeout=90)


def told(ended: subprocess.CompletedProcess[str]) -> str:
    """Return the one paragraph that a command said before it ended with an error."""
    assert ended.returncode in (1, 2), ended
    assert ended.stdout == ""
    assert "Traceback" not in ended.stderr
    paragraph = ended.stderr.strip()
    assert len(paragraph.splitlines()) == 1, paragraph
    return paragraph


def known_jobs() -> int:
    """Return how many jobs the engine in use knows."""
    status: dcengine.EngineStatus = current().call("status")
    return sum(status.counts.values())


# ---- what is handed in ---------------------------------------------------------------------


def test_a_wrong_tag_expression_is_shown_where_it_is_wrong(tmp_path: Path, url: str) -> None:
    before = known_jobs()

    said = told(command(tmp_path, "submit", "math:sqrt", "4", "--tags", "gpu.memory>=lots", "--url", url))

    assert "'lots' is neither a number" in said
    assert "at character 13 of the tag expression 'gpu.memory>=lots'" in said
    assert "looks like" in said
    assert known_jobs() == before


@pytest.mark.parametrize(
    ("function", "way_out"),
    [
        ("no_such_module:f", "a module that can be imported from"),
        ("math:no_such_name", "a name in that module"),
        ("math", "MODULE:FUNCTION, such as math:sqrt"),
        ("math:pi", "something to call"),
    ],
)
def test_an_unknown_function_is_named(tmp_path: Path, url: str, function: str, way_out: str) -> None:
    before = known_jobs()

    said = told(command(tmp_path, "submit", function, "--url", url))

    assert function.partition(":")[0] in said
    assert way_out in said
    assert known_jobs() == before


def test_an_argument_that_cannot_travel_ends_a_script_with_its_place_and_type(tmp_path: Path, url: str) -> None:
    before = known_jobs()
    ended = script(
        tmp_path,
        """
        import dcengine, threading
        dcengine.submit(print, 1, threading.Lock())
        """,
        DCENGINE_URL=url,
    )

    assert ended.returncode == 1
    last = ended.stderr.strip().splitlines()[-1]
    assert "NotPicklable: argument 2 (of type lock) cannot be pickled" in last
    assert "Create it inside the function" in last
    assert known_jobs() == before


def test_a_package_that_the_worker_lacks_is_named_with_the_worker(tmp_path: Path, url: str) -> None:
    (tmp_path / "steps.py").write_text("def work():\n    import no_such_package\n")

    ended = command(tmp_path, "submit", "steps:work", "--wait", "--url", url)

    assert ended.returncode == 1
    last = ended.stderr.strip().splitlines()[-1]
    assert "MissingPackage: worker w1 has no module 'no_such_package'" in last
    assert "steps.work" in last or "work imports" in last
    assert "install it in the worker's environment" in last


def test_a_wrong_name_in_the_settings_is_shown_with_the_right_one(tmp_path: Path) -> None:
    (tmp_path / "dcengine.toml").write_text("prot = 8787\n")

    said = told(command(tmp_path, "status"))

    assert "'prot'" in said
    assert "dcengine.toml" in said
    assert "port" in said
    assert sorted(os.listdir(tmp_path)) == ["dcengine.toml"]


# ---- the file ------------------------------------------------------------------------------


def corrupt(db: Path) -> None:
    opening.open_for_writing(db).close()
    data = bytearray(db.read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)
    db.write_bytes(data)


def of_another_program(db: Path) -> None:
    connection = sqlite3.connect(db)
    connection.execute("CREATE TABLE song (title TEXT)")
    connection.close()


def no_database(db: Path) -> None:
    db.write_text("to do: everything\n" * 100)


def newer(db: Path) -> None:
    opening.open_for_writing(db).close()
    connection = sqlite3.connect(db)
    connection.execute("PRAGMA user_version = 9999")
    connection.close()


@pytest.mark.parametrize(
    ("make", "what", "way_out"),
    [
        (corrupt, "is damaged", ".recover"),
        (of_another_program, "the SQLite database of another program", "Choose another file"),
        (no_database, "not an SQLite file", "Choose another file"),
        (newer, "has schema 9999", "pip install --upgrade dcengine"),
    ],
)
@pytest.mark.parametrize("line", [("serve", "--port", "0", "--workers", "0"), ("submit", "math:sqrt", "4")])
def test_a_file_that_is_not_good_is_named_and_stays_as_it_is(
    tmp_path: Path, make: Callable[[Path], None], what: str, way_out: str, line: tuple[str, ...]
) -> None:
    db = tmp_path / "work.db"
    make(db)
    before = db.read_bytes()

    said = told(command(tmp_path, *line, "--db", str(db)))

    assert str(db) in said
    assert what in said
    assert way_out in said
    assert db.read_bytes() == before


ON_NFS = """
import sys
from dcengine.store import opening
opening._mounts = lambda: [("/", "nfs4")]
from dcengine.cli import main
sys.argv = ["dcengine", *{arguments!r}]
main()
"""


@pytest.mark.parametrize("arguments", [("serve", "--port", "0"), ("submit", "math:sqrt", "4")])
def test_a_network_file_system_is_refused_before_a_file_is_made(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    said = told(script(tmp_path, ON_NFS.format(arguments=[*arguments, "--db", "work.db"])))

    assert "work.db lies on a network file system (nfs4)" in said
    assert "put the file on a local disk" in said
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_refuses_new_jobs_and_goes_on_when_there_is_room(mountpoint: Path) -> None:
    ballast = mountpoint / "ballast"
    ballast.write_bytes(bytes(14_500_000))
    accepted: list[dcengine.JobHandle] = []
    with embedded(mountpoint / "work.db", workers=1, processes=False) as engine:
        assert _ready(engine) == (200, "ready\n")
        with pytest.raises(dcengine.DiskFull, match="free some space"):  # noqa: PT012 - the one that fails is not known
            for number in range(100):
                accepted.append(dcengine.submit(len, os.urandom(100_000 + number)))
        assert accepted
        assert _ready(engine) == (503, "not ready: DiskFull\n")

        ballast.unlink()
        eventually(lambda: _ready(engine) == (200, "ready\n"))
        later = eventually(lambda: _submitted(b"later"))

        assert isinstance(later, dcengine.JobHandle)
        assert later.result(60) == 5
        assert [job.result(60) for job in accepted] == [100_000 + number for number in range(len(accepted))]

    with embedded(mountpoint / "work.db", workers=1, processes=False):
        again = [dcengine.job(job.id).result(60) for job in accepted]
        assert again == [100_000 + number for number in range(len(accepted))]


def _ready(engine: dcengine.Engine) -> tuple[int, str]:
    """What balancers are told: status and text of /readyz."""
    try:
        with urllib.request.urlopen(engine.url.partition("?")[0] + "readyz") as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read().decode()


def _submitted(data: bytes) -> dcengine.JobHandle | None:
    """Submit once the engine has noticed that there is room."""
    try:
        return dcengine.submit(len, data)
    except dcengine.DiskFull:
        return None


# ---- the address ---------------------------------------------------------------------------


def test_a_port_in_use_is_named_with_a_way_to_a_free_one(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])

        said = told(command(tmp_path, "serve", "--db", "work.db", "--workers", "0", "--port", port))

    assert f"port {port} of 127.0.0.1 is in use" in said
    assert "choose one with --port" in said


def test_a_wrong_token_is_told_with_where_the_right_one_is(tmp_path: Path, url: str) -> None:
    said = told(command(tmp_path, "status", "--url", url.partition("?")[0], "--token", "guess"))

    assert "the token is wrong" in said
    assert "`dcengine serve` printed" in said


def test_an_address_where_nobody_answers_is_named(tmp_path: Path, unused_tcp_port: int) -> None:
    said = told(command(tmp_path, "status", "--url", f"http://127.0.0.1:{unused_tcp_port}/?token=guess"))

    assert f"no engine answers at http://127.0.0.1:{unused_tcp_port}" in said
    assert "`dcengine doctor`" in said
