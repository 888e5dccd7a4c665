"""Workers and clients as the old farm had them, in processes of their own, with Debian's Blender and ffmpeg."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

import dcengine
from dcengine import api
from tests.engines import end, environment, eventually, served, serving, start_serve
from tests.p2p import scene

MISSING = [program for program in ("blender", "ffmpeg", "ffprobe") if shutil.which(program) is None]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"not installed here: {', '.join(MISSING)}")

DEADLINE = 180.0  #: seconds for one job, on a busy machine
BLUES = {"ink": 200, "sky": 60}  #: the two scenes, by how blue they are
LAST = 24


class OldWorker:
    """A process of an old worker, and what it has said."""

    def __init__(self, address: str, id: str, folder: Path, rest: float) -> None:
        folder.mkdir(exist_ok=True)
        command = [sys.executable, "-m", "tests.p2p.old_worker", address, id, str(folder), str(rest)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment())
        self.lines: list[str] = []
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        self.lines.extend(line.strip() for line in iter(self.process.stdout.readline, ""))

    @property
    def frames(self) -> list[int]:
        """The frames that it has sent."""
        return [int(line.removeprefix("frame ")) for line in self.lines if line.startswith("frame")]

    def kill(self) -> None:
        """Kill it and its Blender, as a machine that goes off does."""
        for each in [*psutil.Process(self.process.pid).children(recursive=True), psutil.Process(self.process.pid)]:
            each.kill()
        self.process.wait()


@contextmanager
def old_worker(address: object, id: str, folder: Path, rest: float = 0.0) -> Iterator[OldWorker]:
    worker = OldWorker(str(address), id, folder, rest)
    try:
        yield worker
    finally:
        if worker.process.poll() is None:
            worker.kill()
        assert worker.process.stdout is not None
        worker._reading.join(10)
        worker.process.stdout.close()


def start_client(address: object, id: str, path: Path, last: int, folder: Path) -> subprocess.Popen[str]:
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "tests.p2p.old_client", str(address), id, str(path), "1", str(last), "12"]
    return subprocess.Popen([*command, str(folder)], stdout=subprocess.PIPE, text=True, env=environment())


def told_by(client: subprocess.Popen[str]) -> list[str]:
    """What *client* was told, to its end."""
    told, _ = client.communicate(timeout=DEADLINE)
    assert client.returncode == 0, told
    return told.splitlines()


def check(folder: Path, name: str, last: int) -> None:
    """Check zip and movie in *folder*: all frames, the right ones, in a movie that plays."""
    with zipfile.ZipFile(folder / "results.zip") as archive:
        frames = {file: scene.seen(archive.read(file)) for file in archive.namelist()}
    assert frames == {f"{frame}.png": scene.colour_of(frame, BLUES[name]) for frame in range(1, last + 1)}
    assert probed(folder / "results.mp4") == ("h264", "yuv420p", "12/1", str(last))


def probed(movie: Path) -> tuple[str, ...]:
    shown = "stream=codec_name,pix_fmt,r_frame_rate,nb_read_frames"
    command = ["ffprobe", "-v", "error", "-count_frames", "-show_entries", shown, "-of", "json", str(movie)]
    (stream,) = json.loads(subprocess.run(command, capture_output=True, check=True, timeout=60).stdout)["streams"]
    return tuple(stream[name] for name in ("codec_name", "pix_fmt", "r_frame_rate", "nb_read_frames"))


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("scenes")
    return {name: scene.make(folder / f"{name}.blend", blue=blue, last=LAST) for name, blue in BLUES.items()}


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    with served(tmp_path_factory.mktemp("x") / "x.db", "--protocol-port", "p2p=0", workers=1) as told:
        ports = told["ports"]
        assert isinstance(ports, dict)
        yield ports["p2p"]


def test_two_clients_get_their_own_frames_though_a_worker_is_killed_half_way(
    port: object, scenes: dict[str, Path], tmp_path: Path
) -> None:
    with (
        old_worker(port, "workernr01", tmp_path / "one", 0.5) as first,
        old_worker(port, "workernr02", tmp_path / "two") as second,
    ):
        eventually(both_are_there, DEADLINE)
        ink = start_client(port, "commander1", scenes["ink"], LAST, tmp_path / "ink")
        sky = start_client(port, "commander2", scenes["sky"], 8, tmp_path / "sky")
        eventually(lambda: len(first.frames) >= 2, DEADLINE)
        first.kill()
        told = [told_by(ink), told_by(sky)]

    ends = ["rendered", "file_name,file,video_name,video"]
    assert told == [["frame_rendered"] * LAST + ends, ["frame_rendered"] * 8 + ends]
    check(tmp_path / "ink", "ink", LAST)
    check(tmp_path / "sky", "sky", 8)
    assert int(first.lines[0].rpartition("-")[2]) in second.frames  # the last one that the first was to do


def both_are_there() -> bool:
    """Whether two workers are connected: nothing is asked of them before, so the port is looked at."""
    status = api.current().call("status")
    number = int(status.ports["p2p"].rpartition(":")[2])
    connected = psutil.Process(status.pid).net_connections("tcp")
    return sum(each.laddr.port == number and each.status == "ESTABLISHED" for each in connected) >= 2


def test_the_render_command_has_old_workers_render(port: object, scenes: dict[str, Path], tmp_path: Path) -> None:
    status = api.current().call("status")
    with old_worker(port, "workernr01", tmp_path / "one") as worker:
        run = dcengine.workloads.start(
            "render", scene=scenes["sky"], frames="3-6", fps=12.0, on="p2p",
            out=(str(tmp_path / "movie.mp4"), str(tmp_path / "frames")),
        )  # fmt: skip
        run.save(DEADLINE)

    assert worker.lines == ["chunk 3-6", "frame 3", "frame 4", "frame 5", "frame 6"]
    assert probed(tmp_path / "movie.mp4") == ("h264", "yuv420p", "12/1", "4")
    colours = {path.name: scene.seen(path.read_bytes()) for path in (tmp_path / "frames").iterdir()}
    assert colours == {f"{frame:04}.png": scene.colour_of(frame, BLUES["sky"]) for frame in range(3, 7)}
    assert status.ports == {"p2p": port}


def test_while_no_old_worker_is_there_those_of_dask_render(
    port: object, scenes: dict[str, Path], tmp_path: Path
) -> None:
    client = start_client(port, "commander3", scenes["ink"], 3, tmp_path / "ink")

    assert told_by(client)[-2:] == ["rendered", "file_name,file,video_name,video"]
    check(tmp_path / "ink", "ink", 3)


def test_a_job_outlives_an_engine_that_is_killed(scenes: dict[str, Path], tmp_path: Path) -> None:
    with serving(tmp_path / "x.db", "--protocol-port", "p2p=0", workers=1) as (engine, told):
        address = told["ports"]["p2p"]  # type: ignore[index]
        with old_worker(address, "workernr01", tmp_path / "one") as worker:
            client = start_client(address, "commander1", scenes["ink"], 6, tmp_path / "ink")
            eventually(lambda: worker.frames, DEADLINE)
            engine.kill()
            engine.wait()
        client.communicate(timeout=DEADLINE)

    engine = start_serve(tmp_path / "x.db", "--protocol-port", "p2p=0", workers=1)
    try:
        assert engine.stdout is not None
        address = json.loads(engine.stdout.readline())["ports"]["p2p"]
        with old_worker(address, "workernr02", tmp_path / "two"):
            again = start_client(address, "commander1", scenes["ink"], 6, tmp_path / "ink")
            assert told_by(again)[-2] == "rendered"
    finally:
        end(engine)
    check(tmp_path / "ink", "ink", 6)
