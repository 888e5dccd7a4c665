"""A scene over workers that fail, die, or have no room: what has become of it in the end."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest

import dcengine
from dcengine import workloads
from dcengine_plugins.render.planning import BLENDER
from tests.engines import eventually, family, gone, joined, served
from tests.scenes import needs_blender, needs_ffmpeg, pixels, probed, rendered_by_hand, scene

pytestmark = [needs_blender, needs_ffmpeg, pytest.mark.timeout(240)]
FRAMES = 24
LIKE = 3.0  #: mean difference of a byte between two renderings of one picture, at most


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("farm")


@pytest.fixture(scope="module")
def cube(folder: Path) -> Path:
    """A scene of 24 frames."""
    return scene(folder / "cube.blend")


def wait_for(count: int) -> None:
    """Wait until *count* workers have said that they have Blender; asked for it is only once something needs it."""
    dcengine.submit(abs, 1, tags=BLENDER).result(60)

    def have_blender() -> bool:
        verdicts = dcengine.explain(BLENDER).workers
        return len([each for each in verdicts if not each.lacking and each.problem is None]) == count

    eventually(have_blender, 60)


def broken_blender(folder: Path, words: str = "Error: the graphics card is on fire") -> dict[str, str]:
    """Return an environment in which Blender says *words* and ends."""
    folder.mkdir()
    program = folder / "blender"
    program.write_text(f"#!/bin/sh\necho '{words}'\nexit 11\n")
    program.chmod(0o755)
    return {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}


def test_a_worker_whose_blender_is_broken_is_set_aside_and_the_others_do_its_frames(cube: Path, tmp_path: Path) -> None:
    with ExitStack() as stack:
        told = stack.enter_context(served(tmp_path / "work.db", workers=0))
        stack.enter_context(joined(told["url"], "--name", "good"))
        stack.enter_context(joined(told["url"], "--name", "bad", more=broken_blender(tmp_path / "bin")))
        wait_for(2)

        run = workloads.start("render", scene=cube, movie=False).wait()

        assert run.status().failed == 0
        assert workers_of(run) == {"good"}
        (bad,) = (worker for worker in dcengine.workers() if worker.name == "bad")
        assert "graphics card is on fire" in bad.set_aside[run.project.name]


def test_a_frame_that_fails_everywhere_fails_with_blenders_own_message_and_log(cube: Path, tmp_path: Path) -> None:
    with ExitStack() as stack:
        told = stack.enter_context(served(tmp_path / "work.db", workers=0))
        stack.enter_context(joined(told["url"], more=broken_blender(tmp_path / "bin")))
        run = workloads.start("render", scene=cube, frames="3", movie=False)

        with pytest.raises(dcengine.DcengineError, match=r"Blender did not open the scene.*graphics card is on fire"):
            run.wait(60)

        assert len(run.project.job(1).history()[0].tries) == 3
        assert "graphics card is on fire" in str(run.project.job(1).output)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root for a small file system")
def test_a_worker_whose_disk_is_full_says_so_and_the_others_do_its_frames(cube: Path, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(small)]  # the scene has 0.9 MB
    if subprocess.run(mounted, capture_output=True, check=False).returncode:
        pytest.skip("may not mount a file system")
    try:
        with ExitStack() as stack:
            told = stack.enter_context(served(tmp_path / "work.db", workers=0))
            stack.enter_context(joined(told["url"], "--name", "good"))
            stack.enter_context(joined(told["url"], "--name", "full", more={"TMPDIR": str(small)}))
            wait_for(2)

            run = workloads.start("render", scene=cube, movie=False).wait()

            assert run.status().failed == 0
            tried = [each for n in range(1, FRAMES + 1) for each in run.project.job(n).history()[0].tries]
            tries = [each for each in tried if each.reason]
            assert {each.worker for each in tries} == {"full"}
            assert all("No space left on device" in str(each.reason) for each in tries), tries
    finally:
        subprocess.run(["umount", "-l", str(small)], check=False)


def workers_of(run: workloads.Run) -> set[str | None]:
    """Return who has rendered frames."""
    records = [run.project.job(number).history()[0] for number in range(1, FRAMES + 1)]
    return {record.worker for record in records if record.state == "succeeded"}


def test_a_worker_that_is_killed_half_way_costs_no_frame(folder: Path, tmp_path: Path) -> None:
    path = scene(folder / "slow.blend", samples=32, size=(128, 96))
    with ExitStack() as stack:
        told = stack.enter_context(served(tmp_path / "work.db", workers=0))
        first, second = (
            stack.enter_context(joined(told["url"], "--name", name, "--slots", "1")) for name in ("w1", "w2")
        )
        wait_for(2)
        run = workloads.start("render", scene=path, out=[str(tmp_path / "slow.mp4"), str(tmp_path / "frames")])
        eventually(lambda: "w1" in workers_of(run), 60)
        blenders = eventually(lambda: [each for each in family(first.pid) if each.name() == "blender"])

        os.kill(first.pid, signal.SIGKILL)
        run.save()

        assert second.poll() is None
        assert workers_of(run) == {"w1", "w2"}
    by_hand = rendered_by_hand(path, tmp_path / "hand", (1, FRAMES))
    frames = sorted((tmp_path / "frames").iterdir())
    assert len(frames) == FRAMES
    pairs = zip(frames, by_hand, strict=True)
    assert max(pixels(ours).differs_from(pixels(theirs)) for ours, theirs in pairs) < LIKE
    assert probed(tmp_path / "slow.mp4")["nb_read_frames"] == str(FRAMES)
    assert eventually(lambda: gone(blenders))
