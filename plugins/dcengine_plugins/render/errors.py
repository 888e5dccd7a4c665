"""What can be wrong with a render, as branches of dcengine's own tree of errors."""

from __future__ import annotations

from collections.abc import Sequence

from dcengine.errors import DcengineError, InvalidInput, InvalidOption

SHOWN = 5  #: of many


class InvalidScene(DcengineError, ValueError):
    """The file is no scene that Blender can open."""

    def __init__(self, name: str, problem: str, way_out: str) -> None:
        super().__init__(name, problem, way_out)
        self.name, self.problem, self.way_out = name, problem, way_out

    def __str__(self) -> str:
        return f"{self.name} {self.problem}; {self.way_out}"


class InvalidFrames(InvalidOption):
    """The frames that were asked for make no sense, or are none of the scene."""


class OutputNotWritable(DcengineError, OSError):
    """What is rendered could not be stored where it was asked for."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(path, problem)
        self.path, self.problem = path, problem

    def __str__(self) -> str:
        return f"{self.path} cannot be written: {self.problem}; name another with --out"


class SceneIncomplete(InvalidInput):
    """Files that the scene uses are not on the worker, or it has no camera: no worker could render it."""


class BlenderFailed(DcengineError, RuntimeError):
    """Blender did not do what it was asked to."""

    def __init__(self, what: str, problem: str, log: Sequence[str]) -> None:
        super().__init__(what, problem, log)
        self.what, self.problem, self.log = what, problem, log

    def __str__(self) -> str:
        return "\n".join((f"Blender did not {self.what}: {self.problem}", *(f"  {line}" for line in self.log)))


class FfmpegFailed(DcengineError, RuntimeError):
    """Ffmpeg did not join the pictures."""

    def __init__(self, status: int, log: Sequence[str]) -> None:
        super().__init__(status, log)
        self.status, self.log = status, log

    def __str__(self) -> str:
        return "\n".join((f"ffmpeg ended with {self.status}", *(f"  {line}" for line in self.log)))


def named(paths: Sequence[str]) -> str:
    """Return *paths* as a sentence names them: the first few, and how many more there are."""
    more = f" and {len(paths) - SHOWN} more" if len(paths) > SHOWN else ""
    return ", ".join(paths[:SHOWN]) + more
