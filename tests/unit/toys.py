"""A workload with parameters of every kind, for tests; others that cannot be used."""

from __future__ import annotations

import enum
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from dcengine import Project
from dcengine.workloads import LOCAL, File, Workload, name_for


class Mood(enum.Enum):
    GLAD = "glad"
    SAD = "sad"


class Parameters(msgspec.Struct, kw_only=True, frozen=True):
    parts: Annotated[tuple[File, ...], Meta(min_length=1, description="What it is made of.")]
    size: Annotated[Annotated[int, Meta(ge=1, le=9)] | None, Meta(description="How large.")] = None
    speed: Annotated[float, Meta(gt=0, description="How fast.")] = 2.0
    colour: Annotated[Literal["red", "blue"], Meta(description="Of its outside.")] = "red"
    mood: Annotated[Mood, Meta(description="Of its face.")] = Mood.GLAD
    names: Annotated[list[str], Meta(max_length=2, description="Of its owners.")] = []
    wheels: Annotated[bool, Meta(description="Whether it has some.")] = True
    label: Annotated[str, Meta(max_length=5, description="What stands on it.")] = ""
    out: Annotated[str, Meta(description="Where it goes.", extra={LOCAL: True})] = ""

    def __post_init__(self) -> None:
        if self.mood is Mood.SAD and self.wheels:
            raise ValueError("glad ones, where there are wheels")


def project_of(asked: Parameters) -> Project:
    project = Project(name_for("toy", asked, about=asked.parts[0].name))
    project.stage(name="glue", title="Glue it")(glue)
    if project.declare().total:
        project.retry(cancelled=True)
    else:
        project.add([part.content for part in asked.parts])
    return project


def glue(part: bytes) -> bytes:
    if part == b"broken":
        raise ArithmeticError("the glue does not hold")
    return part.upper()


def save(project: Project, asked: Parameters) -> list[Path]:
    Path(asked.out).write_bytes(b"".join(project.results()))
    return [Path(asked.out)]


def toy() -> Workload:
    return Workload("toy", "Make a toy.", Parameters, project_of, save)


class Reserved(msgspec.Struct):
    wait: int = 0


class Unfit(msgspec.Struct):
    where: dict[str, int] = {}


class Unknown(msgspec.Struct):
    where: Callable[[], Any] | list[int] | tuple[int, ...] = ()


def reserved() -> Workload:
    return Workload("reserved", "", Reserved, project_of)


def unfit() -> Workload:
    return Workload("unfit", "", Unfit, project_of)


def unknown() -> Workload:
    return Workload("unknown", "", Unknown, project_of)


def other() -> Workload:
    return toy()


def nothing() -> None:
    return None


def raising() -> Workload:
    raise LookupError("no such toy")


OFFERED = {
    "toy": "tests.unit.toys:toy",
    "gone": "nothing.of.this:name",
    "reserved": "tests.unit.toys:reserved",
    "unfit": "tests.unit.toys:unfit",
    "unknown": "tests.unit.toys:unknown",
    "other": "tests.unit.toys:other",
    "nothing": "tests.unit.toys:nothing",
    "raising": "tests.unit.toys:raising",
    "load": "tests.unit.toys:toy",
    "toy-car": "tests.unit.toys:toy",
}
