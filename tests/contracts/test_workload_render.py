"""The suite for authors of workloads, against the one that ships with dcengine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dcengine.testing import WorkloadSuite
from tests.scenes import needs_blender, scene


@needs_blender
@pytest.mark.timeout(120)
class TestRender(WorkloadSuite):
    name = "render"
    needs = "exe.blender & exe.ffmpeg"

    def sample(self, folder: Path) -> dict[str, Any]:
        path = scene(folder / "cube.blend", frames=(1, 2), size=(16, 12))
        return {"scene": path, "frames": "1-2", "out": [folder / "cube.mp4"]}
