"""Counts the words of texts on the workers of dcengine."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from dcengine import DcengineError, InvalidOption, Project
from dcengine.workloads import LOCAL, File, Workload, name_for

LINES = 10_000  #: that one task counts


class Parameters(msgspec.Struct, kw_only=True, frozen=True):
    """What can be asked."""

    texts: Annotated[tuple[File, ...], Meta(min_length=1, description="The texts, in UTF-8.")]
    letters: Annotated[int, Meta(ge=1, description="How many a word must have to count.")] = 1
    most: Annotated[int, Meta(ge=1, description="How many words, the most frequent ones.")] = 100
    out: Annotated[str, Meta(description="Where the table goes, a .csv.", extra={LOCAL: True})] = "words.csv"


def project_of(asked: Parameters) -> Project:
    """Return the project that counts the words of what is *asked*: the one of before, if there is one."""
    if Path(asked.out).suffix != ".csv":
        raise InvalidOption("out", repr(asked.out)[:100], "the name of a .csv file")
    texts = [(decoded(file), asked.letters) for file in asked.texts]  # what is wrong is said before there is a project
    project = Project(name_for("wordcount", asked, about=asked.texts[0].name))
    project.expand(pieces)
    project.stage(retries=2)(count)
    project.gather(total)
    if project.declare().total:
        project.retry(cancelled=True)
    else:
        project.add(texts)
    return project


def decoded(file: File) -> str:
    """Return the text in *file*; raises `InvalidOption`."""
    try:
        return file.content.decode()
    except UnicodeDecodeError as error:
        raise InvalidOption("texts", f"{file.name!r} ({error})", "files in UTF-8") from error


def pieces(text: tuple[str, int]) -> Iterator[tuple[str, int]]:
    """Yield the text in pieces, each with how many letters a word must have."""
    whole, letters = text
    lines = whole.splitlines(keepends=True)
    for start in range(0, max(1, len(lines)), LINES):
        yield "".join(lines[start : start + LINES]), letters


def count(piece: tuple[str, int]) -> Counter[str]:
    """Return how often each word is in a piece."""
    text, letters = piece
    words = re.findall(r"[^\W\d_]+", text.lower())
    return Counter(word for word in words if len(word) >= letters)


def total(counts: list[Counter[str]]) -> Counter[str]:
    """Return the sum of what was counted in the pieces of a text."""
    return sum(counts, Counter())


class TableNotWritten(DcengineError, OSError):
    """The table could not be stored where it was to go."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(path, problem)
        self.path, self.problem = path, problem

    def __str__(self) -> str:
        return f"{self.path} cannot be written: {self.problem}; name another with --out"


def save(project: Project, asked: Parameters) -> list[Path]:
    """Write the table; return its path."""
    path = Path(asked.out)
    try:
        with path.open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(("word", "count"))
            table.writerows(total(project.results()).most_common(asked.most))
    except OSError as error:
        raise TableNotWritten(str(path), error.strerror or str(error)) from error
    return [path]


def workload() -> Workload:
    """Return the workload; found through the entry point of its name."""
    return Workload("wordcount", "Count the words of texts.", Parameters, project_of, save)
