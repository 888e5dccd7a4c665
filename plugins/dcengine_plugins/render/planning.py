"""From what is asked to a project: which pictures, by whom, and what becomes of them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import msgspec

import dcengine
from dcengine import Project, Reference, api
from dcengine.errors import InvalidOption
from dcengine.tags import parse
from dcengine.workloads import name_for

from . import old_farm, scenes, work
from .errors import InvalidFrames
from .frames import frames_of, named
from .parameters import RenderParameters
from .pictures import Picture, Tile
from .saving import check, wants_movie

KEPT = "30d"  #: the scene, after it was asked for last
RETRIES = 2  #: a frame that failed three times has failed
BLENDER, FFMPEG = "exe.blender | pkg.bpy", "exe.ffmpeg"  #: Blender is a program, or a module of Python


def planned(asked: RenderParameters) -> Project:
    """Return the project that renders what is *asked*: the one of before where the same was asked before.

    Raises `InvalidScene`, `InvalidFrames`, `InvalidTags`, `InvalidOption`, `OutputNotWritable`.
    """
    look, grid = asked.look, asked.grid
    check(asked.out)
    parse(asked.tags)  # by themselves: in brackets with others, ") | (" would mean something
    if asked.is_for_old_farm:
        _check_old_farm(asked)
    content = asked.scene.content
    its_own = scenes.frames_of(content, asked.scene.name)
    reference = dcengine.put(content, keep=KEPT)
    if its_own is None and asked.is_for_old_farm and asked.frames:
        frames = frames_of(asked.frames)  # there may be nobody else to ask
    else:
        frames = _frames(asked, *(its_own or _as_blender_says(asked, reference)))
    if asked.is_for_old_farm:
        return _for_old_farm(asked, reference, frames)
    project = Project(_name(asked, frames))
    tags = _tags(asked)
    scene: Any = reference  # on the worker it is the content
    project.stage(name="render", title="Render", tags=tags, retries=RETRIES)(
        partial(work.render, scene=scene, digest=reference.digest, look=look)
    )
    if grid is not None:
        columns, rows = grid
        merge = partial(work.merge, columns=columns, rows=rows)
        project.gather(name="merge", title="Merge the tiles", tags=FFMPEG, retries=RETRIES)(merge)
    elif wants_movie(asked):
        project.gather(name="movie", title="Join the frames", tags=FFMPEG, retries=RETRIES)(
            partial(work.join, fps=asked.fps)
        )
    pictures = _pictures(frames, grid)
    is_joined = grid is not None or wants_movie(asked)
    _fill(project, pictures, [picture.name for picture in pictures], is_joined=is_joined)
    return project


def _for_old_farm(asked: RenderParameters, reference: Reference, frames: list[int]) -> Project:
    """Return the project that workers of the old farm render."""
    project = Project(_name(asked, frames), protocol=old_farm.PROTOCOL)
    old_farm.declare(project, asked.fps if wants_movie(asked) else None)
    name = old_farm.safe_name(asked.scene.name)
    commander = reference.digest[: old_farm.ID_LENGTH]
    orders = [old_farm.Order(frame, reference.digest, name, asked.fps, commander) for frame in frames]
    keys = [order.key for order in orders]
    _fill(project, list(map(msgspec.structs.asdict, orders)), keys, is_joined=wants_movie(asked))
    return project


def _check_old_farm(asked: RenderParameters) -> None:
    """Raise `InvalidOption` for what old workers cannot do, and where none can come."""
    old_farm.check(asked.look, tags=asked.tags, tiles=asked.tiles)
    if old_farm.PROTOCOL not in api.current().call("status").ports:
        expected = "an engine with a port for old workers: dcengine serve --protocol-port p2p=9000"
        raise InvalidOption("on", "'p2p' here", expected)


def _fill(project: Project, items: Sequence[Any], keys: list[str], *, is_joined: bool) -> None:
    """Add those *items* that are not there yet; what has failed is tried again.

    Those that are joined afterwards are added all together, or none is.
    """
    known = project.declare()
    if known.total:
        project.retry(cancelled=True)
    if not (known.total and is_joined):
        project.add(items, keys=keys)


def _pictures(frames: list[int], grid: tuple[int, int] | None) -> list[Picture]:
    if grid is None:
        return [Picture(frame) for frame in frames]
    if len(frames) != 1:
        raise InvalidFrames("frames", named(frames), "one frame: tiles are merged to a single picture")
    columns, rows = grid
    return [Picture(frames[0], Tile(column, row, columns, rows)) for row in range(rows) for column in range(columns)]


def _frames(asked: RenderParameters, start: int, end: int) -> list[int]:
    """Return the frames that are asked for; raises `InvalidFrames` where the scene has others only."""
    if not asked.frames:
        return [start] if asked.grid else list(range(start, end + 1))
    frames = frames_of(asked.frames)
    outside = [frame for frame in frames if not start <= frame <= end]
    if outside:
        raise InvalidFrames("frames", repr(asked.frames), f"some of the scene, which has {start}-{end}")
    return frames


def _as_blender_says(asked: RenderParameters, reference: Reference) -> tuple[int, int]:
    """Return the first and the last frame of a scene that only Blender can read: a worker is asked."""
    told = dcengine.submit(work.frames_of_scene, reference, reference.digest, tags=_tags(asked), on_no_match="fail")
    frames: tuple[int, int] = told.result()
    return frames


def _tags(asked: RenderParameters) -> str:
    return f"({BLENDER}) & ({asked.tags})" if asked.tags else BLENDER


def _name(asked: RenderParameters, frames: list[int]) -> str:
    """Return a name that the same request has again, however it was said, and no other."""
    plain = msgspec.structs.replace(asked, frames=named(frames), movie=wants_movie(asked))
    return name_for("render", plain, about=asked.scene.name.removesuffix(".blend"))
