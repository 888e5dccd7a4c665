"""An engine to be looked at: projects half done, people who help, calls that run."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

import dcengine
from dcengine.api import current
from dcengine.calls import submitter
from dcengine.verbs import Completion, Heartbeat, LeasedTask, LeaseRequest, TaskFailure
from tests.engines import eventually, served

SHEETS = (
    "quercus-robur", "acer-campestre", "tilia-cordata", "fagus-sylvatica", "betula-pendula", "corylus-avellana",
    "salix-alba", "sorbus-aucuparia", "prunus-avium", "carpinus-betulus", "fraxinus-excelsior", "ulmus-glabra",
)  # fmt: skip
# Who helps with the tiles: nickname, machine, what it offers, how many tasks it has done.
PEOPLE: tuple[tuple[str, str, dict[str, str | None], int], ...] = (
    ("ada", "ada-tower", {"gpu": "1", "gpu.memory": "24GiB"}, 64),
    ("kenji", "kenji-nuc", {"net": None}, 41),
    ("amira", "amira-laptop", {"net": None}, 38),
    ("library-basement", "basement-1", {"net": None, "disk": "2TiB"}, 22),
    ("library-basement", "basement-2", {"net": None, "disk": "2TiB"}, 19),
    ("ole", "ole-thinkpad", {"net": None}, 7),
)
TILES = 260
BATCH = 25  #: tasks that a helper leases at once
TROUBLE = ("tile {} has no georeference", "no answer from the archive in 30 s")
TAGS = "site=attic;site=attic,gpu=1,gpu.memory=16GiB"


def scan(name: str) -> dict[str, Any]:
    print(f"\x1b[36mscanning\x1b[0m {name} at 600 dpi")
    return {"name": name, "width": 4200, "height": 6300}


def crop(sheet: dict[str, Any]) -> dict[str, Any]:
    if sheet["name"].endswith(("-07", "-19", "-31")):
        raise ValueError(f"sheet {sheet['name'][-2:]} is torn at the edge")
    return {**sheet, "width": 2048, "height": 2048}


def press(sheet: dict[str, Any]) -> bytes:
    import io
    import math
    import zlib

    from PIL import Image, ImageDraw

    seed = zlib.crc32(sheet["name"].encode())
    picture = Image.new("RGB", (320, 240), (244, 239, 226))
    draw = ImageDraw.Draw(picture)
    width, lobes, hue = 45 + seed % 40, 3 + seed % 5, (60 + seed % 50, 105 + seed // 7 % 60, 50)
    edge = [
        (160 + side * width * math.sin(math.pi * t / 60) * (1 + 0.22 * math.sin(lobes * t / 4)), 20 + t * 200 / 60)
        for side, steps in ((1, range(61)), (-1, range(60, -1, -1)))
        for t in steps
    ]
    draw.polygon(edge, fill=hue)
    draw.line([(160, 10), (160, 232)], fill=(70, 60, 40), width=3)
    for t in range(8, 56, 8):
        y = 20 + t * 200 / 60
        draw.line([(160, y + 16), (160 + width * 0.7, y - 6)], fill=(90, 85, 50))
        draw.line([(160, y + 16), (160 - width * 0.7, y - 6)], fill=(90, 85, 50))
    said = io.BytesIO()
    picture.save(said, "PNG")
    return said.getvalue()


def train(sheets: str, *, epochs: int) -> None:
    import time

    import dcengine

    for epoch in range(1, 8):
        print(f"epoch {epoch:2} \x1b[32mloss {1.9 / epoch:.3f}\x1b[0m  accuracy {1 - 0.6 / epoch:.1%}")
    print("\x1b[33mwarning:\x1b[0m 3 sheets have no label, left out")
    dcengine.progress(7, epochs, f"epoch 7 of {epochs}")
    while True:
        time.sleep(0.1)


def measure(n: int) -> float:
    return n**0.5


for step in (scan, crop, press, train, measure):
    step.__module__ = "herbarium"  # as if somebody had written them for that


@contextmanager
def showcase(folder: Path, *arguments: str) -> Iterator[dict[str, Any]]:
    """Serve an engine with everything that its pages can show; yields what it printed, and `training`, a job's id."""
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        patch.setenv("LOGNAME", "flora")  # who brings the jobs, and lends this machine
        submitter.cache_clear()
        stack.callback(submitter.cache_clear)
        told = stack.enter_context(served(folder / "herbarium.db", "--worker-tags", TAGS, *arguments))
        dcengine.map(measure, range(400), tags="!gpu").results()
        sheets = _press_sheets()
        _have_people_help()
        training = dcengine.submit(train, "sheets.parquet", epochs=20, tags="gpu")
        dcengine.submit(train, "scans.parquet", epochs=80, tags="gpu.memory>=80GiB")  # nobody has that: it says why
        eventually(lambda: sheets.status().succeeded >= 33 and training.status().progress)
        yield {**told, "training": training.id}
        training.cancel()


def _press_sheets() -> dcengine.Project:
    sheets = dcengine.Project("herbarium")
    sheets.stage(scan, name="scan", title="scan the sheet")
    sheets.stage(crop, name="crop", retries=0)
    sheets.stage(press, name="press", title="press the leaf")
    names = [f"{SHEETS[n % len(SHEETS)]}-{n:02}" for n in range(36)]
    sheets.add(names, keys=names)
    sheets.run()
    return sheets


def _have_people_help() -> None:
    tiles = dcengine.Project("old-maps", is_open=True)
    tiles.lease_stage("download", retries=0)
    tiles.lease_stage("georeference", tags="gpu")
    tiles.lease_stage("caption")
    tiles.add([{"url": f"https://archive.example/tiles/{n:05}.tif"} for n in range(TILES)])
    tiles.run()
    for nickname, worker, tags, done in PEOPLE:
        _help(nickname, worker, tags, done)


def _help(nickname: str, worker: str, tags: dict[str, str | None], done: int) -> None:
    """Have *worker* do so many tasks, and hold one more of which it says how far it is."""
    numbers = itertools.count(1)
    left = done
    while left:
        leased = _lease(nickname, worker, tags, min(left, BATCH))
        left -= len(leased)
        good = [task for task in leased if task.number % 23]
        current().call("complete", [Completion(token=task.token) for task in good])
        bad = [task for task in leased if not task.number % 23]
        if bad:
            said = [TROUBLE[next(numbers) % 2].format(task.number) for task in bad]
            failures = [TaskFailure(token=task.token, reason=why) for task, why in zip(bad, said, strict=True)]
            current().call("fail", failures)
    (task,) = _lease(nickname, worker, tags, 1)
    share = 0.2 + (done % 7) / 10
    text = f"tile {task.number}: {share:.0%} of 4,096 strips"
    current().call("heartbeat", [Heartbeat(token=task.token, done=share, total=1.0, text=text)])


def _lease(nickname: str, worker: str, tags: dict[str, str | None], n: int) -> list[LeasedTask]:
    """Lease tasks of whichever stage has some for these *tags*, the last first."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        for stage in ("georeference", "download") if "gpu" in tags else ("download", "caption"):
            wish = LeaseRequest(project="old-maps", stage=stage, worker=worker, nickname=nickname, tags=tags, n=n)
            leased: list[LeasedTask] = current().call("lease", wish)
            if leased:
                return leased
    raise AssertionError(f"there is nothing left for {worker}")
