"""Scenes made by Blender for tests, and pictures as numbers."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import pytest

BLENDER, FFMPEG, FFPROBE = map(shutil.which, ("blender", "ffmpeg", "ffprobe"))
needs_blender = pytest.mark.skipif(BLENDER is None, reason="there is no Blender: apt-get install blender")
needs_ffmpeg = pytest.mark.skipif(FFMPEG is None, reason="there is no ffmpeg: apt-get install ffmpeg")

SCRIPT = """
import bpy, json, sys

asked = json.loads(sys.argv[-1])
scene, cube = bpy.context.scene, bpy.data.objects["Cube"]
scene.frame_start, scene.frame_end = asked["start"], asked["end"]
scene.render.engine, scene.cycles.samples, scene.cycles.use_denoising = "CYCLES", asked["samples"], False
scene.render.resolution_x, scene.render.resolution_y = asked["size"]
for frame, place in ((asked["start"], (3.0, -3.0, 0.0)), (asked["end"], (-3.0, 3.0, 0.0))):
    cube.location = place
    cube.keyframe_insert("location", frame=frame)
material = bpy.data.materials.new("colour")
material.use_nodes = True
shader = material.node_tree.nodes["Principled BSDF"]
shader.inputs["Base Color"].default_value = (*asked["colour"], 1.0)
cube.data.materials.clear()
cube.data.materials.append(material)
if asked["texture"]:
    image = bpy.data.images.new("wood", 8, 8)
    image.filepath, image.source = asked["texture"], "FILE"
    material.node_tree.nodes.new("ShaderNodeTexImage").image = image
if not asked["camera"]:
    bpy.data.objects.remove(bpy.data.objects["Camera"])
bpy.ops.wm.save_as_mainfile(filepath=asked["path"], compress=asked["compress"])
"""


def scene(
    path: Path,
    *,
    frames: tuple[int, int] = (1, 24),
    size: tuple[int, int] = (64, 48),
    samples: int = 1,
    colour: tuple[float, float, float] = (0.8, 0.1, 0.1),
    texture: str = "",
    camera: bool = True,
    compress: bool = False,
) -> Path:
    """Make a scene in which a cube goes across the picture; return *path*."""
    asked = {
        "path": str(path), "start": frames[0], "end": frames[1], "size": size, "samples": samples, "colour": colour,
        "texture": texture, "camera": camera, "compress": compress,
    }  # fmt: skip
    script = path.with_suffix(".py")
    script.write_text(SCRIPT)
    words = ("blender", "--background", "--factory-startup", "--python-exit-code", "1", "--python", str(script))
    done = subprocess.run((*words, "--", json.dumps(asked)), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return path


def rendered_by_hand(path: Path, folder: Path, frames: tuple[int, int]) -> list[Path]:
    """Return the pictures of *frames* that Blender makes of the scene by itself."""
    words = ("blender", "-b", str(path), "-o", f"{folder}/", "-F", "PNG", "-x", "1")
    subprocess.run((*words, "-s", str(frames[0]), "-e", str(frames[1]), "-a"), check=True, stdout=subprocess.DEVNULL)
    return sorted(folder.glob("*.png"))


class Pixels(NamedTuple):
    """A picture as its pixels, three bytes each."""

    width: int
    height: int
    data: bytes

    def differs_from(self, other: Pixels) -> float:
        """Return the mean difference of a byte."""
        assert self[:2] == other[:2]
        return sum(abs(a - b) for a, b in zip(self.data, other.data, strict=True)) / len(self.data)


def pixels(picture: Path | bytes) -> Pixels:
    """Decode *picture*, a PNG or one that ffmpeg knows."""
    content = picture if isinstance(picture, bytes) else picture.read_bytes()
    words = ("ffmpeg", "-v", "error", "-i", "-", "-f", "rawvideo", "-pix_fmt", "rgb24", "-")
    data = subprocess.run(words, input=content, capture_output=True, check=True).stdout
    width, height = (int.from_bytes(content[at : at + 4], "big") for at in (16, 20))  # of the PNG's header
    assert len(data) == 3 * width * height
    return Pixels(width, height, data)


def probed(movie: Path | bytes) -> dict[str, Any]:
    """Return what ffprobe counts and reads in the first stream of *movie*, decoding all of it."""
    content = movie if isinstance(movie, bytes) else movie.read_bytes()
    words = ("ffprobe", "-v", "error", "-count_frames", "-show_streams", "-of", "json", "-")
    told = subprocess.run(words, input=content, capture_output=True, check=True).stdout
    stream: dict[str, Any] = json.loads(told)["streams"][0]
    return stream
