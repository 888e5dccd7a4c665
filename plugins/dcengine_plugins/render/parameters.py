"""What may be asked of a render, and what of it makes sense."""

from __future__ import annotations

import re
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from dcengine.errors import InvalidOption
from dcengine.workloads import LOCAL, File

from .pictures import Look, Size

ENGINES = {"cycles": "CYCLES", "eevee": "BLENDER_EEVEE", "workbench": "BLENDER_WORKBENCH"}
MOST_TILES = 1024  #: ffmpeg has each open


class RenderParameters(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """What may be asked of a render; what is not said is as the scene has it."""

    scene: Annotated[File, Meta(description="The .blend file.", extra={"suffix": ".blend"})]
    frames: Annotated[
        str,
        Meta(description="Which, such as 1-120, 1-1200:40 (each fortieth), 3,5-10; those of the scene if not said."),
    ] = ""
    fps: Annotated[float, Meta(gt=0, le=1000, description="Frames of the movie in each second.")] = 24.0
    movie: Annotated[bool, Meta(description="Join the frames to a movie.")] = True
    engine: Annotated[
        Literal["cycles", "eevee", "workbench"] | None, Meta(description="What of Blender makes the pictures.")
    ] = None
    samples: Annotated[Annotated[int, Meta(ge=1)] | None, Meta(description="For each pixel.")] = None
    resolution: Annotated[str, Meta(description="Such as 1920x1080, or 50%.")] = ""
    tiles: Annotated[
        str, Meta(description="Render one picture in so many tiles, such as 4x3 (columns x rows), and merge them.")
    ] = ""
    tags: Annotated[str, Meta(description="What else a worker must have that renders, such as gpu.")] = ""
    on: Annotated[
        Literal["workers", "p2p"],
        Meta(description="Who renders: p2p is those of the old farm, where the engine has a port for them."),
    ] = "workers"
    out: Annotated[
        tuple[str, ...],
        Meta(
            description="Where it goes: a .mp4, a .png, a .zip of the frames, or a folder for them; may be said again.",
            extra={LOCAL: True},
        ),
    ] = ()

    @property
    def look(self) -> Look:
        """How its pictures look; raises `InvalidOption`."""
        size, percent = _resolution(self.resolution)
        engine = ENGINES[self.engine] if self.engine else None
        return Look(engine=engine, samples=self.samples, size=size, percent=percent)

    @property
    def is_for_old_farm(self) -> bool:
        """Whether workers of the old farm are to render."""
        return self.on == "p2p"

    @property
    def grid(self) -> Size | None:
        """Columns and rows of tiles, None without; raises `InvalidOption`."""
        if not self.tiles:
            return None
        match = re.fullmatch(r"(\d{1,3})x(\d{1,3})", self.tiles)
        columns, rows = (int(match[1]), int(match[2])) if match else (0, 0)
        if not 1 <= columns * rows <= MOST_TILES:
            raise InvalidOption("tiles", repr(self.tiles), f"COLUMNSxROWS such as 4x3, {MOST_TILES:,} at most")
        return columns, rows


def _resolution(text: str) -> tuple[Size | None, int | None]:
    """Return the size in pixels, or the percentage, that *text* says."""
    if not text:
        return None, None
    if (match := re.fullmatch(r"(\d{1,3})%", text)) and 1 <= int(match[1]) <= 100:
        return None, int(match[1])
    if (match := re.fullmatch(r"(\d{1,5})x(\d{1,5})", text)) and min(int(match[1]), int(match[2])) >= 4:
        return (int(match[1]), int(match[2])), None
    raise InvalidOption(
        "resolution", repr(text), "WIDTHxHEIGHT such as 1920x1080 (4 at least), or a percentage up to 100%"
    )
