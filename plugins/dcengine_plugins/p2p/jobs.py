"""A commander's job: what it asks for, the project that this becomes, and how that stands."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

import msgspec

from dcengine.calls import submitter
from dcengine.codec import unpack_failure
from dcengine.declaring import Pipeline
from dcengine.errors import NotFound
from dcengine.items import blocks
from dcengine.verbs import ItemsSubmission, ProjectSpec, ProjectStatus, Verbs

from ..render import scenes as blends
from ..render.errors import InvalidScene
from ..render.old_farm import MOVIE, PROTOCOL, STAGE, SUFFIX, Order, declare, safe_name
from .scenes import MOST_KEPT, Scenes
from .wire import Malformed, bytes_in, fields_in, number_in

JOB_LIMIT = MOST_KEPT * 4 // 3 + (1 << 20)  #: bytes of a message with a scene
MOST_FRAMES = 100_000  #: of one job
HIGHEST_FRAME = 1_048_574  #: that Blender counts to


class RenderJob(msgspec.Struct, frozen=True):
    """What a commander asks for."""

    file_name: str  #: without folders, and harmless
    scene: bytes
    start: int
    end: int
    fps: float


def job_in(body: bytes) -> RenderJob:
    """Return the job that a message asks for; raises `Malformed`."""
    fields = fields_in(body)
    start, end = number_in(fields, "start_frame"), number_in(fields, "end_frame")
    if not 0 <= start <= end <= HIGHEST_FRAME or end - start >= MOST_FRAMES:
        raise Malformed(f"frames {start}-{end}: they go from 0 on, and are {MOST_FRAMES:,} at most")
    name, scene = safe_name(fields.get("file_name")), bytes_in(fields, "file")
    try:
        blends.frames_of(scene, name)
    except InvalidScene as problem:
        raise Malformed(str(problem)) from None
    return RenderJob(name, scene, start, end, _fps(fields.get("fps", 24)))


def _fps(value: object) -> float:
    try:
        fps = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        fps = 0.0
    if not 0 < fps <= 1000:
        raise Malformed(f"fps is {ascii(value)[:50]}, no number above 0")
    return fps


async def begin(verbs: Verbs, scenes: Scenes, job: RenderJob, commander: str) -> str:
    """Have *job* rendered; return the project. One that was asked for before goes on, or is there already."""
    digest = (await scenes.put(job.scene)).digest
    name = name_of(job, digest)
    try:
        is_new = not (await verbs.project(name)).total
    except NotFound:
        is_new = True
    if is_new:
        await verbs.declare_project(await asyncio.to_thread(_spec, name, job.fps))
        await _add(verbs, name, [Order(n, digest, job.file_name, job.fps, commander) for n in _frames(job)])
    else:
        await verbs.retry_project(name, cancelled=True)
    await verbs.run_project(name)
    return name


def name_of(job: RenderJob, digest: str) -> str:
    """Return the project's name, which the same job has again, and no other."""
    said = msgspec.json.encode([digest, job.start, job.end, job.fps])
    return f"p2p-{job.file_name.removesuffix(SUFFIX)[:40]}-{hashlib.sha256(said).hexdigest()[:8]}"


def _frames(job: RenderJob) -> range:
    return range(job.start, job.end + 1)


def _spec(name: str, fps: float) -> ProjectSpec:
    pipeline = Pipeline(name, protocol=PROTOCOL)
    declare(pipeline, fps)
    return pipeline.spec()


async def _add(verbs: Verbs, name: str, orders: list[Order]) -> None:
    """Add *orders* as the parts of one job, whose end is the movie."""
    items: list[dict[str, Any]] = list(map(msgspec.structs.asdict, orders))
    packed = list(blocks(items, [order.key for order in orders], as_json=True))
    root: int | None = None
    for place, block in enumerate(packed, 1):
        added = await verbs.add_jobs(
            ItemsSubmission(
                project=name, blocks=[block.data], count=block.size, keys=block.keys, submitter=submitter(), root=root,
                is_last=place == len(packed),
            )
        )  # fmt: skip
        root = added.root


def rendered_in(status: ProjectStatus) -> int:
    """Return how many frames are there."""
    return next((stage.counts.get("succeeded", 0) for stage in status.stages if stage.name == STAGE), 0)


async def problem_of(verbs: Verbs, name: str) -> str:
    """Return why a project that has ended has no movie; empty where it has one."""
    if any(output.state == "succeeded" for output in await verbs.outputs(name, MOVIE, limit=1)):
        return ""
    failed = await verbs.failed_jobs(name, limit=1)
    return unpack_failure(failed[0].data).sentence if failed else "it was cancelled"
