"""What is to be rendered: one picture of a scene, and how it is to look."""

from __future__ import annotations

import base64
from typing import Any

import msgspec

Size = tuple[int, int]  #: pixels: width, height


def content_of(picture: bytes | dict[str, str]) -> bytes:
    """Return the PNG that was rendered; those of the old farm's workers come as JSON."""
    return picture if isinstance(picture, bytes) else base64.b64decode(picture["png"])


class Tile(msgspec.Struct, frozen=True):
    """One of *columns* x *rows* rectangles of a picture, counted from the upper left."""

    column: int
    row: int
    columns: int
    rows: int

    @property
    def border(self) -> tuple[float, float, float, float]:
        """Its left, right, lower and upper edge as shares of the picture, whose origin is the lower left."""
        top = 1 - self.row / self.rows
        return self.column / self.columns, (self.column + 1) / self.columns, top - 1 / self.rows, top


class Picture(msgspec.Struct, frozen=True):
    """One frame, or a tile of it."""

    frame: int
    tile: Tile | None = None

    @property
    def name(self) -> str:
        """Its name for people, and its key in the project."""
        if self.tile is None:
            return f"frame {self.frame:04}"
        return f"frame {self.frame:04}, tile {self.tile.column + 1},{self.tile.row + 1}"

    def told(self) -> dict[str, Any]:
        """Return what Blender is told of it."""
        return {"frame": self.frame, "tile": self.tile and self.tile.border}


class Look(msgspec.Struct, frozen=True):
    """How pictures of a scene are rendered; None: as the scene says."""

    engine: str | None = None  #: such as CYCLES
    samples: int | None = None  #: for each pixel
    size: Size | None = None
    percent: int | None = None  #: of the scene's own size

    def told(self) -> dict[str, Any]:
        """Return what Blender is told of it."""
        return msgspec.structs.asdict(self)
