"""Runs inside Blender: renders one picture after another, as it is told over a pipe.

``blender --background SCENE --python host.py -- COMMANDS ANSWERS`` with the numbers of two open file descriptors, or
``python host.py SCENE -- COMMANDS ANSWERS`` where Blender is a Python module. The first answer says what the scene is;
then each line of JSON that comes in is a picture to render, and each that goes out says what became of it. Blender's
own words go to its standard output, as ever. This file knows nothing but Blender and the standard library.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import bpy


def main() -> None:
    """Answer until nobody asks any more."""
    ours, theirs = sys.argv[: sys.argv.index("--")], sys.argv[sys.argv.index("--") + 1 :]
    if bpy.app.background and ours[-1].endswith(".blend") and not bpy.data.filepath:
        bpy.ops.wm.open_mainfile(filepath=ours[-1], use_scripts=False)
    with os.fdopen(int(theirs[0])) as commands, os.fdopen(int(theirs[1]), "w", buffering=1) as answers:
        print(json.dumps(about_scene()), file=answers)
        its_own = settings_of(bpy.context.scene)
        for line in commands:
            print(json.dumps(answered(json.loads(line), its_own)), file=answers)


def about_scene() -> dict[str, Any]:
    """Return what whoever asks for pictures should know."""
    scene = bpy.context.scene
    return {
        "blender": bpy.app.version_string,
        "start": scene.frame_start,
        "end": scene.frame_end,
        "fps": scene.render.fps / scene.render.fps_base,
        "has_camera": scene.camera is not None,
        "missing": missing_files(),
    }


def missing_files() -> list[str]:
    """Return the paths of the files that the scene uses, and that are not here."""
    used = [
        image
        for image in bpy.data.images
        if image.source in {"FILE", "MOVIE"} and not image.packed_file and image.users and image.filepath
    ]
    used += [font for font in bpy.data.fonts if font.filepath != "<builtin>" and not font.packed_file and font.users]
    used += list(bpy.data.libraries)
    return sorted(
        {each.filepath for each in used if not os.path.exists(bpy.path.abspath(each.filepath, library=each.library))}
    )


def answered(command: dict[str, Any], its_own: dict[str, Any]) -> dict[str, Any]:
    """Render what *command* asks for; return what became of it."""
    try:
        set_up(bpy.context.scene, command, its_own)
        bpy.ops.render.render(write_still=True)
    except Exception as error:  # what Blender raises for whatever it does not like
        return {"problem": str(error).strip()}
    return {"problem": None}


def settings_of(scene: Any) -> dict[str, Any]:
    """Return how *scene* is rendered unless a command says otherwise."""
    render = scene.render
    return {
        "engine": render.engine,
        "samples": [scene.cycles.samples, scene.eevee.taa_render_samples],
        "size": [render.resolution_x, render.resolution_y],
        "percent": render.resolution_percentage,
        "border": [render.use_border, render.use_crop_to_border],
    }


def set_up(scene: Any, command: dict[str, Any], its_own: dict[str, Any]) -> None:
    """Have *scene* be rendered as *command* says, and as *its_own* settings say where that is silent."""
    render = scene.render
    samples = command["samples"]
    render.engine = command["engine"] or its_own["engine"]
    scene.cycles.samples, scene.eevee.taa_render_samples = [samples, samples] if samples else its_own["samples"]
    render.resolution_x, render.resolution_y = command["size"] or its_own["size"]
    render.resolution_percentage = command["percent"] or (100 if command["size"] else its_own["percent"])
    render.use_border, render.use_crop_to_border = its_own["border"]
    if command["tile"]:
        render.use_border = render.use_crop_to_border = True
        render.border_min_x, render.border_max_x, render.border_min_y, render.border_max_y = command["tile"]
    render.image_settings.file_format = "PNG"
    render.use_file_extension = False
    render.filepath = command["path"]
    scene.frame_set(command["frame"])


main()
