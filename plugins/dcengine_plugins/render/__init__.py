"""Render a Blender scene over many workers: each frame is a job, their Blenders stay open, ffmpeg joins the frames.

`parameters` is what may be asked, `planning` makes a project of it, `work` is what its stages do on the workers
with `blender`, which runs `host` inside Blender; `scenes` reads what a .blend file says of itself.
"""

from __future__ import annotations

from dcengine.workloads import Workload

from .parameters import RenderParameters
from .planning import planned
from .saving import save


def workload() -> Workload:
    """Return the workload; found through the entry point of its name."""
    return Workload(
        name="render",
        title="Render a Blender scene: a movie, frames, or one picture in tiles.",
        parameters=RenderParameters,
        project=planned,
        save=save,
    )
