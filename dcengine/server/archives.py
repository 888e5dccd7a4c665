"""What a stage has made, as one zip that is sent while it is put together: no more than one output is in memory."""

from __future__ import annotations

import asyncio
import re
import time
import zipfile
from collections.abc import AsyncIterator
from pathlib import PurePath
from urllib.parse import quote

from aiohttp import web

from ..codec import JSON
from ..glances import bytes_in, media_of
from ..verbs import StageOutput, Verbs
from .answers import PIECE, VERBS
from .sending import StreamedAnswer
from .speaking import Content, speaks

ZIP = "application/zip"
PAGE = 8  #: outputs that are asked for at once
NAME_LETTERS = 200  #: of one file, and of one folder
UNFIT = re.compile(r'[\x00-\x1f\x7f<>:"|?*\ud800-\udfff]')  #: what some file system does not take
OLDEST = (1980, 1, 1, 0, 0, 0)  #: moment that a zip can say


@speaks(answer=Content(ZIP, None, "A zip, its files named after the keys of their jobs."))
async def outputs_as_zip(request: web.Request) -> web.StreamResponse:
    """Answer what a stage has made so far, as one zip: of each job that is bytes, a text or JSON, a file."""
    project, stage, verbs = request.match_info["name"], request.match_info["stage"], request.app[VERBS]
    page = await verbs.outputs(project, stage, limit=PAGE)  # raises for what there is not
    name = quote(f"{project}-{stage}.zip", safe="")
    answer = StreamedAnswer(headers={"Content-Disposition": f"attachment; filename*=UTF-8''{name}"})
    answer.content_type = ZIP
    await answer.prepare(request)
    async for piece in _zipped(verbs, _outputs(verbs, project, stage, page)):
        await answer.write(piece)
    await answer.write_eof()
    return answer


async def _outputs(verbs: Verbs, project: str, stage: str, page: list[StageOutput]) -> AsyncIterator[StageOutput]:
    while page:
        for output in page:
            yield output
        page = await verbs.outputs(project, stage, after=page[-1].number, limit=PAGE)


async def _zipped(verbs: Verbs, outputs: AsyncIterator[StageOutput]) -> AsyncIterator[bytes]:
    pieces, taken = _Pieces(), set[str]()
    archive = zipfile.ZipFile(pieces, "w", zipfile.ZIP_STORED)  # type: ignore[call-overload]  # it is only written to
    async for output in outputs:
        content = await asyncio.to_thread(bytes_in, output.data) if output.state == "succeeded" else None
        if content is None:
            continue
        job = await verbs.job(output.job)
        name = file_name(job.key or f"{output.number:06}", content, is_json=output.data[:1] == JSON)
        entry = zipfile.ZipInfo(_unique(name, output.number, taken), _moment(job.finished or time.time()))
        entry.external_attr = 0o644 << 16
        await asyncio.to_thread(archive.writestr, entry, content)
        for piece in pieces.taken():
            yield piece
    await asyncio.to_thread(archive.close)
    for piece in pieces.taken():
        yield piece


class _Pieces:
    """A file that is only written to, and hands on what was."""

    def __init__(self) -> None:
        self._written = bytearray()

    def write(self, data: bytes) -> int:
        self._written += data
        return len(data)

    def flush(self) -> None:
        pass

    def taken(self) -> list[bytes]:
        """Return what was written since the last time."""
        written, self._written = self._written, bytearray()
        return [bytes(written[at : at + PIECE]) for at in range(0, len(written), PIECE)]


def file_name(key: str, content: bytes, *, is_json: bool = False) -> str:
    """Return *key* as the name of a file within the archive, never outside of where it is unpacked."""
    parts = [UNFIT.sub("_", each).strip(" .")[:NAME_LETTERS] for each in re.split(r"[/\\]", key)]
    name = "/".join(filter(None, parts)) or "file"
    return name if PurePath(name).suffix else name + _suffix(content, is_json=is_json)


def _suffix(content: bytes, *, is_json: bool) -> str:
    if media := media_of(content):
        return f".{media.rpartition('/')[2]}"
    if is_json:
        return ".json"
    try:
        is_text = "\0" not in content.decode()
    except UnicodeDecodeError:
        is_text = False
    return ".txt" if is_text else ".bin"


def _unique(name: str, number: int, taken: set[str]) -> str:
    """Return *name*, or one with *number* where file systems would take it for one of those *taken*."""
    path = PurePath(name)
    if name.casefold() in taken:
        name = str(path.with_name(f"{path.stem}-{number}{path.suffix}"))
    while name.casefold() in taken:
        name = f"{name}_"
    taken.add(name.casefold())
    return name


def _moment(seconds: float) -> tuple[int, int, int, int, int, int]:
    return max(OLDEST, time.localtime(seconds)[:6])
