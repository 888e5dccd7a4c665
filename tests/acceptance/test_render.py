"""A scene over two workers, by the real Blender and ffmpeg: the pictures, the movie, and what may go wrong."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest

import dcengine
from dcengine import workloads
from dcengine.errors import InvalidOption
from dcengine.workloads import load
from dcengine_plugins.render import blender
from dcengine_plugins.render.pictures import Look, Picture
from tests.engines import embedded, environment, eventually
from tests.scenes import FFMPEG, needs_blender, needs_ffmpeg, pixels, probed, rendered_by_hand, scene

pytestmark = [needs_blender, needs_ffmpeg, pytest.mark.timeout(240)]
FRAMES = 24
LIKE = 3.0  #: mean difference of a byte between two renderings of one picture, at most; that of neighbours is larger


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("render")


@pytest.fixture(scope="module")
def cube(folder: Path) -> Path:
    """A scene of 24 frames."""
    return scene(folder / "cube.blend")


@pytest.fixture(scope="module")
def engine(folder: Path) -> Iterator[dcengine.Engine]:
    with embedded(folder / "work.db", workers=2) as engine:
        yield engine


def test_a_movie_a_zip_and_a_folder_have_all_frames_and_the_right_ones(
    engine: dcengine.Engine, cube: Path, tmp_path: Path
) -> None:
    out = [str(tmp_path / name) for name in ("cube.mp4", "cube.zip", "frames")]

    run = workloads.start("render", scene=cube, out=out)
    assert [str(path) for path in run.save()] == out

    by_hand = rendered_by_hand(cube, tmp_path / "hand", (1, FRAMES))
    frames = sorted((tmp_path / "frames").iterdir())
    assert [path.name for path in frames] == [path.name for path in by_hand] == [f"{n:04}.png" for n in range(1, 25)]
    pairs = [(pixels(ours), pixels(theirs)) for ours, theirs in zip(frames, by_hand, strict=True)]
    assert max(ours.differs_from(theirs) for ours, theirs in pairs) < LIKE
    assert pairs[0][0].differs_from(pairs[11][1]) > LIKE  # so the comparison can tell frames apart
    with zipfile.ZipFile(tmp_path / "cube.zip") as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == {f.name: f.read_bytes() for f in frames}
    movie = probed(tmp_path / "cube.mp4")
    assert (movie["codec_name"], movie["pix_fmt"], movie["nb_read_frames"]) == ("h264", "yuv420p", "24")
    assert (movie["width"], movie["height"], movie["r_frame_rate"]) == (64, 48, "24/1")


def test_what_was_rendered_is_not_rendered_again(engine: dcengine.Engine, cube: Path, tmp_path: Path) -> None:
    first = workloads.start("render", scene=cube, frames="1-6", out=[str(tmp_path / "a.mp4")])
    first.save()
    before = [first.project.job(number).history()[0].tries for number in range(1, 7)]

    again = workloads.start("render", scene=cube, frames="1-6", out=[str(tmp_path / "b.mp4")])
    again.save()

    assert again.project.name == first.project.name
    assert again.status().total == first.status().total
    assert [again.project.job(number).history()[0].tries for number in range(1, 7)] == before
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def test_frames_that_were_cancelled_or_are_lacking_are_rendered_when_asked_again(
    engine: dcengine.Engine, cube: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {"scene": cube, "frames": "1-3", "samples": 2, "out": [str(tmp_path / "frames")]}
    add = dcengine.Project.add
    with monkeypatch.context() as broken_off:  # after two of them
        broken_off.setattr(dcengine.Project, "add", lambda project, items, keys: add(project, items[:2], keys=keys[:2]))
        project = load("render").project(load("render").checked(asked))
    project.cancel()
    assert project.run().status().cancelled == project.status().total == 2

    assert workloads.start("render", **asked).save() == [tmp_path / "frames"]

    assert sorted(path.name for path in (tmp_path / "frames").iterdir()) == ["0001.png", "0002.png", "0003.png"]


def test_a_blender_is_closed_for_another_scene_and_when_nobody_asks(
    cube: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = scene(tmp_path / "other.blend", colour=(0.1, 0.1, 0.8))
    here = psutil.Process()

    def render(path: Path) -> None:
        picture = blender.rendered(Picture(1), Look(), path.name, path.read_bytes(), print)
        assert picture.startswith(b"\x89PNG")

    def blenders() -> list[psutil.Process]:
        return [each for each in here.children() if "blender" in each.name()]

    render(cube)
    (opened,) = blenders()
    render(cube)
    assert blenders() == [opened]
    monkeypatch.setattr(blender, "IDLE_SECONDS", 0.2)
    render(other)
    assert not opened.is_running()

    eventually(lambda: not blenders())
    render(cube)
    eventually(lambda: not blenders())


@pytest.mark.skipif(find_spec("bpy") is None, reason="there is no module bpy: pip install bpy")
def test_blender_as_a_module_renders_where_the_program_is_not(
    cube: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "ffmpeg").symlink_to(str(FFMPEG))
    by_hand = rendered_by_hand(cube, tmp_path / "hand", (1, 2))
    monkeypatch.setenv("PATH", str(tools))
    assert shutil.which("blender") is None

    with embedded(tmp_path / "work.db", workers=1):
        run = workloads.start("render", scene=cube, frames="1-2", out=[str(tmp_path / "frames")])
        run.save()
        log = str(run.project.job(2).output)

    frames = sorted((tmp_path / "frames").iterdir())
    monkeypatch.undo()
    pairs = [(pixels(ours), pixels(theirs)) for ours, theirs in zip(frames, by_hand, strict=True)]
    assert max(ours.differs_from(theirs) for ours, theirs in pairs) < 2 * LIKE  # another version of Blender
    assert "Saved: " in log


def test_sizes_that_are_odd_make_a_movie_that_plays(engine: dcengine.Engine, cube: Path, tmp_path: Path) -> None:
    workloads.start(
        "render", scene=cube, frames="1-3", resolution="33x21", fps=10, out=[str(tmp_path / "x.mp4")]
    ).save()

    movie = probed(tmp_path / "x.mp4")
    assert (movie["width"], movie["height"], movie["nb_read_frames"], movie["r_frame_rate"]) == (34, 22, "3", "10/1")


def test_a_picture_in_tiles_is_the_picture(engine: dcengine.Engine, cube: Path, tmp_path: Path) -> None:
    for name, tiles in (("whole", "1x1"), ("merged", "3x2")):
        workloads.start("render", scene=cube, frames="12", tiles=tiles, out=[str(tmp_path / f"{name}.png")]).save()

    whole, merged = (pixels(tmp_path / f"{name}.png") for name in ("whole", "merged"))
    assert (merged.width, merged.height) == (64, 48)
    assert merged.differs_from(whole) < LIKE


def test_blender_stays_open_between_frames_and_says_what_it_does(engine: dcengine.Engine, cube: Path) -> None:
    run = workloads.start("render", scene=cube, frames="1-8", movie=False).wait()

    said = [str(job.output) for job in (run.project.job(number) for number in range(1, 9))]
    assert all("Saved: " in text for text in said)
    assert not any("Fra:" in text for text in said)
    assert sum("Read blend: " in text for text in said) <= 2  # once on each worker


@pytest.mark.parametrize("compress", [False, True], ids=["plain", "zstd"])
def test_frames_that_the_scene_has_not_are_refused_before_anything_runs(
    engine: dcengine.Engine, folder: Path, compress: bool
) -> None:
    path = scene(folder / f"short-{compress}.blend", frames=(5, 9), compress=compress)

    with pytest.raises(InvalidOption, match="5-9"):
        workloads.start("render", scene=path, frames="4-6")
    assert workloads.start("render", scene=path, movie=False).wait().status().total == 5


def test_a_texture_that_is_missing_is_named_and_nobody_tries_again(engine: dcengine.Engine, folder: Path) -> None:
    run = workloads.start(
        "render", scene=scene(folder / "wood.blend", texture="//textures/wood.png", frames=(1, 2)), movie=False
    )

    with pytest.raises(dcengine.InputRejected, match=r"//textures/wood\.png.*Pack Resources"):
        run.wait()
    assert [len(record.tries) for record in run.project.job(1).history()] == [1]


def test_a_scene_without_a_camera_is_told_so(engine: dcengine.Engine, folder: Path) -> None:
    run = workloads.start("render", scene=scene(folder / "blind.blend", camera=False, frames=(1, 1)), movie=False)

    with pytest.raises(dcengine.InputRejected, match="has no camera"):
        run.wait()


def test_where_nobody_has_blender_that_is_said_when_it_is_asked_for(cube: Path, tmp_path: Path) -> None:
    bare = {"PATH": str(tmp_path)}  # without any program
    command = [sys.executable, "-m", "dcengine", "render", str(cube), "--no-wait", "--db", str(tmp_path / "x.db")]

    told = subprocess.run(command, env=environment(**bare), capture_output=True, text=True, timeout=60, check=False)

    try:
        assert "exe.blender" in told.stderr
    finally:
        subprocess.run([sys.executable, "-m", "dcengine", "stop", "--db", str(tmp_path / "x.db")], check=True)


def test_the_command_makes_a_movie_and_names_it(engine: dcengine.Engine, cube: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "dcengine", "render", str(cube), "--frames", "1-12:4", "--fps", "3"]
    more = ["--out", str(tmp_path / "x.mp4"), "--url", engine.url]

    told = subprocess.run([*command, *more], env=environment(), capture_output=True, text=True, timeout=90, check=False)

    assert told.returncode == 0, told.stderr
    assert told.stdout.strip() == str(tmp_path / "x.mp4")
    assert probed(tmp_path / "x.mp4")["nb_read_frames"] == "3"
