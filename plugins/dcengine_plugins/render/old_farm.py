"""Rendering by workers of the old farm: a lease stage, whose tasks the protocol `p2p` hands to whoever is connected.

They render what a scene says and nothing else, with `blender -b FILE -s FIRST -e LAST -a`: no tiles, no other engine.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import PurePosixPath

import msgspec

from dcengine.declaring import Pipeline
from dcengine.errors import InvalidOption

from . import work
from .pictures import Look

PROTOCOL = "p2p"
STAGE, MOVIE = "render", "movie"
SUFFIX = ".blend"
ID_LENGTH = 10  #: characters of a commander's or worker's id
RETRIES = 2  #: a frame that failed three times has failed


class Order(msgspec.Struct, frozen=True):
    """One frame that is to be rendered: an item of the project, in JSON."""

    frame: int
    scene: str  #: digest of the value that the scene is
    file_name: str
    fps: float
    commander: str  #: whose job it is, in ten characters

    @property
    def key(self) -> str:
        """Its name for people, and its key in the project."""
        return f"frame {self.frame:04}"


def frame_of(key: str) -> int:
    """Return the frame whose `Order.key` this is."""
    return int(key.removeprefix("frame "))


def safe_name(name: object) -> str:
    """Return *name* as workers may put it into a folder of theirs: no path, nothing odd."""
    last = PurePosixPath(str(name or "").replace("\\", "/")).name
    stem = re.sub(r"[^A-Za-z0-9_.-]+", "-", last.removesuffix(SUFFIX)).strip(".-")[:60]
    return f"{stem or 'scene'}{SUFFIX}"


def declare(project: Pipeline, fps: float | None) -> None:
    """Declare the stages that render frames, and join them to a movie of *fps*; None: not joined."""
    project.lease_stage(STAGE, title="Render", retries=RETRIES)
    if fps is not None:
        join = partial(work.join, fps=fps)
        project.gather(name=MOVIE, title="Join the frames", tags="exe.ffmpeg", retries=RETRIES)(join)


def check(look: Look, *, tags: str, tiles: str) -> None:
    """Raise `InvalidOption` for what old workers cannot do."""
    asked = {"tiles": tiles, "tags": tags, "engine, samples or resolution": look if look != Look() else ""}
    for name, value in asked.items():
        if value:
            raise InvalidOption(name, "chosen with on='p2p'", "on='workers': old workers render a scene as it is")
