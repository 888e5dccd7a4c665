"""What was rendered, put where it was asked for: a movie, a picture, a zip of the frames, a folder with them."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO

from dcengine import Project
from dcengine.replacing import replacing

from .errors import OutputNotWritable
from .parameters import RenderParameters
from .pictures import content_of

MOVIE, PICTURE, ZIP = ".mp4", ".png", ".zip"


def check(out: Sequence[str]) -> None:
    """Raise `OutputNotWritable` for what could not be written later: better said before hours of rendering."""
    for each in map(Path, out):
        folder = each if is_folder(each) else each.parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            raise OutputNotWritable(str(each), error.strerror or str(error)) from error


def is_folder(path: Path) -> bool:
    """Tell whether *path* means a folder of frames: it has no suffix, or is one."""
    return not path.suffix or path.is_dir()


def wants_movie(asked: RenderParameters) -> bool:
    """Tell whether frames are to be joined: as *asked*, or else where a movie goes somewhere."""
    return any(Path(each).suffix.lower() == MOVIE for each in asked.out) if asked.out else asked.movie


def save(project: Project, asked: RenderParameters) -> list[Path]:
    """Put what *project* has rendered where it was *asked* for; return the files, or the folder of frames."""
    paths = [Path(each) for each in asked.out]
    for path in paths:
        try:
            _save(project, path)
        except OSError as error:
            raise OutputNotWritable(str(path), error.strerror or str(error)) from error
    return paths


def _save(project: Project, path: Path) -> None:
    if is_folder(path):
        for name, frame in frames(project):
            with _replacing(path / name) as file:
                file.write(frame)
    elif path.suffix.lower() == ZIP:
        with _replacing(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            for name, frame in frames(project):
                archive.writestr(name, frame)
    else:
        with _replacing(path) as file:
            file.write(content_of(project.results()[-1]))


def frames(project: Project) -> Iterator[tuple[str, bytes]]:
    """Yield the frames that *project* has rendered, each with a file name, one after another."""
    names = {job.number: job.key for job in project.jobs(limit=1 << 31)}
    for number, frame in project.each_output("render"):
        yield f"{(names.get(number) or f'frame {number:04}').removeprefix('frame ')}.png", content_of(frame)


def _replacing(path: Path) -> AbstractContextManager[BinaryIO]:
    return replacing(path, lambda partial: partial.open("xb"))
