"""Rendering over two workers, beside Blenders that somebody starts by hand: ``python -m benchmarks.render``.

By hand: two ``blender --background SCENE --frame-start A --frame-end B --render-anim`` at once, half of the frames
each. Ours: `dcengine.workloads.render` on an engine with two workers, until the frames lie in a folder as well. Each
round renders a scene that nobody has seen before, so that ours has to open its Blenders too.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import dcengine
from dcengine import workloads

from .showing import Table, arguments, circumstances, show

WORKERS = 2
SCENE = """
import bpy, sys
path, frames, place = sys.argv[sys.argv.index("--") + 1 :]
scene = bpy.context.scene
scene.frame_end = int(frames)
scene.render.engine, scene.cycles.samples, scene.cycles.use_denoising = "CYCLES", 1, False
scene.render.resolution_x = scene.render.resolution_y = 64
cube = bpy.data.objects["Cube"]
cube.location.z = float(place)
for frame, left in ((1, -2.0), (int(frames), 2.0)):
    cube.location.x = left
    cube.keyframe_insert("location", frame=frame)
bpy.ops.wm.save_as_mainfile(filepath=path)
"""


def run(*, quick: bool) -> dict[str, Any]:
    """Measure everything; return the result."""
    if shutil.which("blender") is None:
        raise SystemExit("there is no program 'blender': apt-get install blender")
    frames, rounds = (24, 1) if quick else (120, 5)
    seconds: dict[str, list[float]] = {"hand": [], "ours": []}
    with tempfile.TemporaryDirectory(prefix="dcengine-benchmark-") as name:
        folder = Path(name)
        with dcengine.Engine(folder / "work.db", workers=WORKERS):
            dcengine.map(abs, range(100)).results()  # workers are there, and warm
            for number in range(rounds):
                scene = _scene(folder, frames, number)
                seconds["hand"].append(_timed(lambda: _by_hand(scene, frames, folder / f"hand-{number}")))  # noqa: B023
                seconds["ours"].append(_timed(lambda: _by_us(scene, folder / f"ours-{number}")))  # noqa: B023
                _check(folder, number, frames)
    ratios = [ours / hand for ours, hand in zip(seconds["ours"], seconds["hand"], strict=True)]
    return {
        **circumstances(),
        "render_vs_hand": round(median(ratios), 3),
        "frames": frames,
        "seconds": {name: [round(each, 2) for each in taken] for name, taken in seconds.items()},
        "quick": quick,
        "notes": [f"the median of {rounds} round(s); ratios {', '.join(f'{ratio:.2f}' for ratio in ratios)}"],
    }


def _scene(folder: Path, frames: int, number: int) -> Path:
    """Return a scene of its own: a cube that moves across the picture, in another height each time."""
    script, path = folder / "scene.py", folder / f"scene-{number}.blend"
    script.write_text(SCENE)
    words = ("--factory-startup", "--python", str(script), "--", str(path), str(frames), f"{number / 10}")
    subprocess.run(("blender", "--background", *words), check=True, stdout=subprocess.DEVNULL)
    return path


def _by_hand(scene: Path, frames: int, folder: Path) -> None:
    share = frames // WORKERS
    blenders = [
        subprocess.Popen(
            (
                "blender", "--background", str(scene), "--render-output", f"{folder}/", "--render-format", "PNG",
                "--use-extension", "1", "--frame-start", str(first), "--frame-end", str(first + share - 1),
                "--render-anim",
            ),
            stdout=subprocess.DEVNULL,
        )
        for first in range(1, frames, share)
    ]  # fmt: skip
    if any(blender.wait() for blender in blenders):
        raise SystemExit("Blender did not render by hand")


def _by_us(scene: Path, folder: Path) -> None:
    workloads.start("render", scene=scene, out=[str(folder)]).save()


def _timed(work: Callable[[], None]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _check(folder: Path, number: int, frames: int) -> None:
    """See that both have made as many pictures."""
    made = {name: len(list((folder / f"{name}-{number}").glob("*.png"))) for name in ("hand", "ours")}
    if set(made.values()) != {frames}:
        raise SystemExit(f"there should be {frames} frames each: {made}")


def main() -> None:
    """Run the benchmark and print what it found."""
    given = arguments(__doc__ or "")
    result = run(quick=given.quick)
    table = Table(
        f"{result['frames']} frames of 64x64 on two workers, seconds",
        ("", "median", "each round"),
        [(name, f"{median(taken):.2f}", ", ".join(map(str, taken))) for name, taken in result["seconds"].items()],
    )
    show([table], result, as_json=given.json)


if __name__ == "__main__":
    main()
