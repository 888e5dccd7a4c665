"""Scenes whose every frame has a colour of its own, made and told apart."""

from __future__ import annotations

import io
import subprocess
from pathlib import Path

from PIL import Image

SIDE = 16  #: pixels
SCRIPT = """
import bpy, sys
path, blue, last = sys.argv[-3], int(sys.argv[-2]), int(sys.argv[-1])
scene = bpy.context.scene
for thing in list(bpy.data.objects):
    if thing.type == "MESH":
        bpy.data.objects.remove(thing)
scene.frame_start, scene.frame_end = 1, last
scene.render.engine = "CYCLES"
scene.cycles.samples, scene.cycles.use_denoising = 1, False
scene.render.resolution_x = scene.render.resolution_y = SIDE
scene.render.resolution_percentage = 100
scene.view_settings.view_transform = "Raw"
tree = scene.world.node_tree
colour = tree.nodes["Background"].inputs[0]
for frame in (1, last):
    colour.default_value = (4 * frame / 255, 0, blue / 255, 1)
    colour.keyframe_insert("default_value", frame=frame)
for curve in tree.animation_data.action.fcurves:
    for point in curve.keyframe_points:
        point.interpolation = "LINEAR"
bpy.ops.wm.save_as_mainfile(filepath=path)
""".replace("SIDE", str(SIDE))


def make(path: Path, *, blue: int, last: int) -> Path:
    """Have Blender save a scene with frames from 1 to *last*."""
    command = ["blender", "-b", "--factory-startup", "--python-expr", SCRIPT, "--", str(path), str(blue), str(last)]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    return path


def colour_of(frame: int, blue: int) -> tuple[int, int, int]:
    """The colour of a frame."""
    return 4 * frame, 0, blue


def seen(content: bytes) -> tuple[int, int, int]:
    """The colour of a picture, in its middle."""
    with Image.open(io.BytesIO(content)) as picture:
        colour = picture.convert("RGB").getpixel((picture.width // 2, picture.height // 2))
    assert isinstance(colour, tuple)
    return colour  # type: ignore[return-value]
