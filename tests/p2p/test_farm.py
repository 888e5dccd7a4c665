"""Old workers and clients at a real port of a real engine; they paint instead of rendering, so this is quick."""

from __future__ import annotations

import logging
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import dcengine
from dcengine import api
from dcengine.errors import EngineError, InvalidOption
from dcengine_plugins.p2p import farm, stand_ins, workers
from tests.engines import embedded, eventually
from tests.p2p import scene
from tests.p2p.fakes import Commander, Worker, frames_of, picture, shade
from tests.p2p.old_wire import HEADER, send

pytestmark = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg, which joins the frames, is not here")

Connections = list[Worker | Commander]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dcengine.Engine]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(stand_ins, "PATIENCE_SECONDS", 1e9)  # nobody but the workers of the tests
        patched.setattr(farm, "LOOK_SECONDS", 0.05)
        patched.setattr(farm, "BEAT_SECONDS", 0.2)
        with embedded(
            tmp_path_factory.mktemp("x") / "x.db", workers=1, processes=False, protocol_ports=["p2p=0"]
        ) as engine:
            yield engine


@pytest.fixture
def address(engine: dcengine.Engine, caplog: pytest.LogCaptureFixture) -> Iterator[str]:
    """The port; after each test nothing is open, and nothing was logged with a traceback."""
    caplog.set_level(logging.INFO, farm.__name__)
    yield engine.ports["p2p"]
    for status in api.current().call("projects"):
        api.current().call("cancel_project", status.name)
        api.current().call("delete_project", status.name)
    eventually(lambda: not held())
    assert [record for record in caplog.records if record.exc_info or record.name == "asyncio"] == []


@pytest.fixture
def connections() -> Iterator[Connections]:
    made: Connections = []
    yield made
    for connection in made:
        connection.close()


def held() -> list[int]:
    """The jobs in workers' hands."""
    statuses = api.current().call("projects")
    return [n for status in statuses if (n := status.stages[0].counts.get("leased", 0))]


def wait_for_workers(caplog: pytest.LogCaptureFixture, number: int) -> None:
    """Wait until so many have come."""
    eventually(lambda: caplog.text.count("has come from") >= number)


def in_background(worker: Worker) -> threading.Thread:
    """Have *worker* paint all that it is given until it is hung up on."""

    def work() -> None:
        while (told := worker.heard()) is not None:
            worker.render(told["message"])

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def finished(client: Commander, colour: str, first: int, last: int) -> bytes:
    """Take the result of *client*; return the movie. Each frame is the right one."""
    frames, movie = client.result()
    assert sorted(frames, key=lambda name: int(name[:-4])) == [f"{frame}.png" for frame in range(first, last + 1)]
    for name, content in frames.items():
        assert scene.seen(content) == shade(colour, int(name[:-4])), name
    return movie


# ---- jobs ----------------------------------------------------------------------------------


def test_two_jobs_at_once_share_the_workers_and_do_not_mix(address: str, connections: Connections) -> None:
    clients = [Commander(address, "commander1").ask("red", 1, 24), Commander(address, "commander2").ask("blue", 3, 20)]
    painters = [Worker(address, f"workernr0{n}") for n in range(3)]
    connections += [*clients, *painters]
    for painter in painters:
        in_background(painter)

    told = [client.until("rendered") for client in clients]
    movies = [finished(clients[0], "red", 1, 24), finished(clients[1], "blue", 3, 20)]

    assert told == [24, 18]
    assert [movie[4:8] for movie in movies] == [b"ftyp", b"ftyp"]
    assert movies[0] != movies[1]


def test_a_task_says_what_the_old_balancer_said(address: str, connections: Connections) -> None:
    connections += [worker := Worker(address), Commander(address, "commander9").ask("red", 5, 8, fps="12")]

    told = worker.heard()

    assert set(told) == {"commander_id", "message", "timestamp", "message_id", "message_type", "chunk_number"}
    assert set(told["message"]) == {"file_name", "file", "start_frame", "end_frame", "fps", "task_id"}
    assert (told["commander_id"], told["message_type"], told["chunk_number"]) == ("commander9", "task", 1)
    assert (told["message"]["file_name"], told["message"]["fps"]) == ("red.blend", 12)
    assert frames_of(told["message"]) == [5, 6, 7, 8]


def test_workers_share_what_is_left_and_the_end_is_in_small_pieces(
    address: str, connections: Connections, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(farm, "WORTHWHILE_SECONDS", 0.0)
    painters = [Worker(address, f"workernr0{n}") for n in range(2)]
    connections += painters
    wait_for_workers(caplog, 2)
    connections.append(client := Commander(address).ask("red", 1, 16))

    sizes = []
    while sum(sizes) < 16:
        task = painters[len(sizes) % 2].chunk()
        sizes.append(len(painters[len(sizes) % 2].render(task)))
    client.until("rendered")

    assert sorted(sizes, reverse=True) == [8, 4, 2, 1, 1]


def test_a_worker_that_dies_gives_its_frames_back_at_once(address: str, connections: Connections) -> None:
    connections += [first := Worker(address, "workernr01"), client := Commander(address).ask("blue", 1, 10)]
    task = first.chunk()
    for frame in (1, 2, 3, 4):
        first.send_frame(frame, task)
    assert [client.heard() for _ in range(4)] == [{"message": "frame_rendered"}] * 4

    first.close()
    connections.append(second := Worker(address, "workernr02"))

    assert second.render(second.chunk()) == [5, 6, 7, 8, 9, 10]
    assert client.until("rendered") == 6
    finished(client, "blue", 1, 10)


def test_an_idle_worker_helps_with_the_second_half_of_what_a_slow_one_has_and_the_first_counts(
    address: str, connections: Connections, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "SLOW_SECONDS", 0.2)
    connections += [slow := Worker(address, "workernr01"), client := Commander(address).ask("red", 1, 8)]
    task = slow.chunk()
    assert frames_of(task) == [1, 2, 3, 4, 5, 6, 7, 8]
    connections.append(quick := Worker(address, "workernr02"))

    helped = quick.chunk()
    assert frames_of(helped) == [5, 6, 7, 8]
    quick.render(helped)
    slow.render(task)

    assert client.until("rendered") == 8
    finished(client, "red", 1, 8)


def test_a_job_whose_client_goes_away_goes_on_and_whoever_asks_again_gets_it(
    address: str, connections: Connections
) -> None:
    connections += [worker := Worker(address), first := Commander(address, "commander1").ask("red", 1, 6)]
    task = worker.chunk()
    worker.send_frame(1, task)
    first.heard()
    first.close()

    for frame in (2, 3, 4, 5, 6):
        worker.send_frame(frame, task)
    eventually(lambda: not api.current().call("projects")[0].open)
    connections.append(again := Commander(address, "commander7").ask("red", 1, 6))

    assert again.until("rendered") == 6  # though nobody renders any more
    finished(again, "red", 1, 6)


def test_one_connection_may_have_one_job_after_another(address: str, connections: Connections) -> None:
    connections += [worker := Worker(address), client := Commander(address).ask("red", 1, 2).ask("blue", 1, 3)]
    in_background(worker)

    assert client.until("rendered") == 2
    finished(client, "red", 1, 2)
    assert client.until("rendered") == 3
    finished(client, "blue", 1, 3)


def test_a_frame_that_no_worker_brings_fails_its_job_and_the_client_hears_why(
    address: str, connections: Connections, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "PATIENCE_SECONDS", 0.1)
    connections.append(client := Commander(address).ask("red", 1, 1))
    for number in range(3):
        connections.append(worker := Worker(address, f"workernr0{number}"))
        worker.chunk()  # Blender fails there, which old workers do not notice
        assert worker.heard() is None

    said = client.heard()
    assert said["message"] == "failed"
    assert "silent for too long" in said["error"]
    assert client.heard() is None


def test_a_job_that_was_cancelled_ends_for_its_client_and_its_worker_goes_on(
    address: str, connections: Connections
) -> None:
    connections += [worker := Worker(address), client := Commander(address, "commander1").ask("red", 1, 4)]
    task = worker.chunk()
    (project,) = api.current().call("projects")
    api.current().call("cancel_project", project.name)
    assert client.heard()["message"] == "failed"
    connections.append(other := Commander(address, "commander2").ask("blue", 1, 2))

    worker.render(task)  # nobody wants it any more, and it is taken for no other job's
    assert worker.render(worker.chunk()) == [1, 2]

    assert other.until("rendered") == 2
    finished(other, "blue", 1, 2)


def test_who_rendered_is_on_the_leaderboard(address: str, connections: Connections) -> None:
    connections += [worker := Worker(address, "abcdefghij"), client := Commander(address).ask("red", 1, 3)]
    worker.render(worker.chunk())
    client.until("rendered")

    (project,) = api.current().call("projects")
    credit = {row.nickname: row.tasks for row in dcengine.Project(project.name).leaderboard()}

    assert credit["p2p-abcdefghij"] == 3


# ---- what harms nothing --------------------------------------------------------------------


HOSTILE_HEADERS = [b"-1", b"1e9", b"99999999999", b"9" * 256, b"\0" * 256, b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 256]


def test_garbage_ends_its_own_connection_and_nothing_else(
    address: str, connections: Connections, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    connections += [worker := Worker(address), client := Commander(address).ask("red", 1, 3)]
    task = worker.chunk()

    for head in HOSTILE_HEADERS:
        with raw(address) as line:
            line.sendall(head.ljust(HEADER))
            assert is_hung_up_on(line), head
        connections.append(other := Worker(address, "badworker1"))
        other.line.sendall(head.ljust(HEADER))
        assert is_hung_up_on(other.line), head
    for hello in (5, None, {}, ["worker"], "admin"):
        with raw(address) as line:
            send(line, hello)
            send(line, "abcdefghij")
            assert is_hung_up_on(line), hello

    worker.render(task)
    assert client.until("rendered") == 3
    assert "hung up on" in caplog.text


def test_a_frame_that_is_none_is_refused_and_its_place_rendered_by_another(
    address: str, connections: Connections
) -> None:
    connections.append(client := Commander(address).ask("red", 1, 3))
    png = b"\x89PNG\r\n\x1a\n" + bytes(100)
    for content in (b"", b"hello", png, png[:10]):
        connections.append(hostile := Worker(address, "hostile001"))
        hostile.send_frame(1, hostile.chunk(), content)
        assert hostile.heard() is None
    connections.append(hostile := Worker(address, "hostile001"))
    hostile.chunk()
    send(hostile.line, {"frame": "no base64!", "frame_num": 1, "fps": 12})
    assert hostile.heard() is None

    connections.append(worker := Worker(address))
    in_background(worker)

    assert client.until("rendered") == 3
    finished(client, "red", 1, 3)


def test_frames_that_nobody_asked_for_are_left_out(
    address: str, connections: Connections, caplog: pytest.LogCaptureFixture
) -> None:
    connections += [worker := Worker(address, "workernr01"), stranger := Worker(address, "stranger01")]
    wait_for_workers(caplog, 2)
    connections.append(client := Commander(address).ask("red", 1, 4))
    task, others = worker.chunk(), stranger.chunk()
    for frame in (*frames_of(task), 7, 10**15, -1):
        stranger.send_frame(frame, task, another_picture())
    assert [stranger.render(others), stranger.render(stranger.chunk())] == [[3], [4]]
    assert [client.heard(), client.heard()] == [{"message": "frame_rendered"}] * 2

    worker.send_frame(99, task)
    send(worker.line, {"message": "hello"})
    for frame in frames_of(task):
        worker.send_frame(frame, task)
        worker.send_frame(frame, task, another_picture())  # said twice: the first one counts

    assert client.until("rendered") == 2
    finished(client, "red", 1, 4)


def another_picture() -> bytes:
    return picture("blue", 77)


@pytest.mark.parametrize(
    "more",
    [
        {"file_name": "../../../etc/cron.d/x.blend"}, {"file_name": "..\\..\\autoexec"}, {"file_name": "/etc/passwd"},
        {"file_name": None}, {"file_name": "-rf"}, {"file_name": 7},
    ],
)  # fmt: skip
def test_no_name_of_a_file_leads_a_worker_out_of_its_folder(
    address: str, connections: Connections, more: dict[str, object]
) -> None:
    connections += [worker := Worker(address), Commander(address).ask("red", 1, 1, **more)]

    name = worker.chunk()["file_name"]

    assert name == Path(name).name
    assert not name.startswith((".", "-"))
    assert name.endswith(".blend")


@pytest.mark.parametrize("more", [{"file": "aGVsbG8="}, {"start_frame": 9}, {"end_frame": 10**7}, {"fps": -1}])
def test_a_job_that_makes_no_sense_is_refused_with_the_reason(
    address: str, connections: Connections, more: dict[str, object]
) -> None:
    connections.append(client := Commander(address).ask("red", 1, 3, **more))

    said = client.heard()

    assert said["message"] == "failed"
    assert said["error"]
    assert client.heard() is None
    assert api.current().call("projects") == []


def raw(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=20)


def is_hung_up_on(line: socket.socket) -> bool:
    line.settimeout(20)
    try:
        return line.recv(1) == b""
    except ConnectionError:
        return True


# ---- the port ------------------------------------------------------------------------------


def test_there_is_no_port_unless_it_is_asked_for(tmp_path: Path) -> None:
    with embedded(tmp_path / "x.db", workers=0, processes=False) as engine:
        assert engine.ports == {}
        with pytest.raises(InvalidOption, match="--protocol-port p2p"):
            dcengine.workloads.start("render", scene=b"BLENDER-v304ENDB", frames="1", on="p2p")


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ("p2p", "PROTOCOL=PORT"), ("p2p=99999", "PROTOCOL=PORT"), ("p2p=a b:1", "PROTOCOL=PORT"),
        ("pigeon=0", "installed: .*p2p"), ("distcompute=0", "no HTTP"), ("p2p=0.0.0.0:0", "asks for no token"),
        ("p2p=192.0.2.1:0", "asks for no token.*--insecure"),
    ],
)  # fmt: skip
def test_a_port_that_cannot_be_is_refused_and_nothing_stays_open(tmp_path: Path, entry: str, problem: str) -> None:
    with (
        pytest.raises((InvalidOption, EngineError), match=problem),
        embedded(tmp_path / "x.db", workers=0, processes=False, protocol_ports=["p2p=0", entry]),
    ):
        pass
    with embedded(tmp_path / "x.db", workers=0, processes=False) as engine:
        assert engine.ports == {}


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(EngineError, match=r"in use by another program; choose one with --protocol-port"),
        embedded(tmp_path / "x.db", workers=0, processes=False, protocol_ports=[f"p2p={taken.getsockname()[1]}"]),
    ):
        pass


def test_an_engine_that_is_started_anew_goes_on_with_the_job(tmp_path: Path) -> None:
    options: dict[str, object] = {"workers": 1, "processes": False, "protocol_ports": ["p2p=0"]}
    with embedded(tmp_path / "x.db", **options) as engine:
        worker, client = Worker(engine.ports["p2p"]), Commander(engine.ports["p2p"]).ask("red", 1, 8)
        task = worker.chunk()
        for frame in (1, 2, 3):
            worker.send_frame(frame, task)
        assert [client.heard() for _ in range(3)] == [{"message": "frame_rendered"}] * 3
    assert worker.heard() is None
    assert client.heard() is None

    with embedded(tmp_path / "x.db", **options) as engine:
        worker = Worker(engine.ports["p2p"])
        task = worker.chunk()
        client = Commander(engine.ports["p2p"]).ask("red", 1, 8)
        assert frames_of(task) == [4, 5, 6, 7, 8]
        worker.render(task)

        assert client.until("rendered") == 8
        finished(client, "red", 1, 8)
        worker.close()
        client.close()


def test_a_movie_plays_everywhere(address: str, connections: Connections, tmp_path: Path) -> None:
    if shutil.which("ffprobe") is None:
        pytest.skip("ffprobe, which looks at the movie, is not here")
    connections += [worker := Worker(address), client := Commander(address).ask("red", 1, 5)]
    worker.render(worker.chunk())
    client.until("rendered")
    path = tmp_path / "results.mp4"
    path.write_bytes(finished(client, "red", 1, 5))

    shown = "stream=nb_read_frames,pix_fmt,r_frame_rate,codec_name"
    command = ["ffprobe", "-v", "error", "-count_frames", "-show_entries", shown, "-of", "csv=p=0", str(path)]
    told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout

    assert told.strip().split(",") == ["h264", "yuv420p", "12/1", "5"]
