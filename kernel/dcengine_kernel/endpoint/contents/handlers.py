"""Files over HTTP: Jupyter's contents API, and downloads. What blocks runs on threads of its own."""

from __future__ import annotations

import asyncio
import json
import mimetypes
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from email.utils import format_datetime
from functools import partial
from typing import IO, Any, TypeVar
from urllib.parse import quote

import msgspec
from aiohttp import web

from dcengine.endpoints import EndpointRoute, Surroundings
from dcengine.server.answers import JSON, bytes_answer, whole_body
from dcengine.server.sending import StreamedAnswer

from ..prefixes import prefix_of
from ..refusing import Refused, refusing
from .elsewhere import Elsewhere
from .files import Files
from .folder import Folder
from .kept import Kept
from .models import KINDS, Wanted
from .paths import clean, is_hidden, name_of
from .places import PIECE, Entry, folder_at, is_local, refuse_missing

BODY_LIMIT = 512 << 20  #: bytes of a file that is saved in one piece, as it travels
BODIES_LIMIT = 2 * BODY_LIMIT  #: bytes of all such files at a time, but for
SMALL_BODY = 16 << 20  #: bytes that always find room
THREADS = 4  #: that wait for disks and buckets; more are of no use to one user at a keyboard
# Nothing that lies there may act as a page of ours, which knows the token.
SANDBOX = "sandbox; default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'"
INLINE = ("image/png", "image/jpeg", "image/gif", "image/webp", "text/plain")  #: what browsers show by themselves

T = TypeVar("T")


def routes(surroundings: Surroundings) -> list[EndpointRoute]:
    """Return the addresses of files."""
    contents = _Contents(surroundings)
    file = "/api/contents/{path:.*}"
    return [
        # The first that fits answers.
        EndpointRoute("GET", f"{file}/checkpoints", "submit", refusing(contents.checkpoints)),
        EndpointRoute("POST", f"{file}/checkpoints", "submit", refusing(contents.create_checkpoint)),
        EndpointRoute("POST", file + r"/checkpoints/{id:[\w-]+}", "submit", refusing(contents.restore_checkpoint)),
        EndpointRoute("DELETE", file + r"/checkpoints/{id:[\w-]+}", "submit", refusing(contents.delete_checkpoint)),
        EndpointRoute("POST", f"{file}/trust", "submit", refusing(contents.trust)),
        *(
            EndpointRoute(method, path, "submit", refusing(answer))
            for path in ("/api/contents", file)
            for method, answer in (
                ("GET", contents.get),
                ("PUT", contents.put),
                ("POST", contents.post),
                ("PATCH", contents.patch),
                ("DELETE", contents.delete),
            )
        ),
        *(
            EndpointRoute(method, "/files/{path:.*}", "submit", refusing(contents.download))
            for method in ("GET", "HEAD")
        ),
    ]


class _Contents:
    def __init__(self, surroundings: Surroundings) -> None:
        self._surroundings = surroundings
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="dcengine-files")
        self._files: Files | None = None
        self._large_bodies = 0  #: bytes that are coming, or are being read as JSON
        url = surroundings.settings.files
        # The working directory of this process may change, what was meant does not.
        self._url = folder_at(url) if is_local(url) else url

    async def get(self, request: web.Request) -> web.StreamResponse:
        """Return a file, notebook or folder with its content, in Jupyter's model."""
        wanted = _wanted(request)
        return await self._told(request, lambda files: files.get(_path(request), wanted))

    async def put(self, request: web.Request) -> web.StreamResponse:
        """Save a file or notebook, or make a folder, at its path."""
        model = await self._body(request)
        return await self._told(request, lambda files: files.put(_path(request), model), is_place_told=True)

    async def post(self, request: web.Request) -> web.StreamResponse:
        """Make a new file, notebook or folder, or a copy of one, in a folder: the name is chosen here."""
        model = await self._body(request)
        return await self._told(request, lambda files: (files.post(_path(request), model), True), is_place_told=True)

    async def patch(self, request: web.Request) -> web.StreamResponse:
        """Move or rename a file or folder."""
        model = await self._body(request)
        return await self._told(request, lambda files: (files.patch(_path(request), model), False), is_place_told=True)

    async def delete(self, request: web.Request) -> web.StreamResponse:
        """Delete a file or folder: into the bin, where the machine has one."""
        await self._ask(lambda files: files.delete(_path(request)))
        return web.Response(status=204)

    async def trust(self, request: web.Request) -> web.StreamResponse:
        """Trust a notebook: its scripts may run when it is opened."""
        await self._ask(lambda files: files.trust(_path(request)))
        return web.Response(status=201)

    async def checkpoints(self, request: web.Request) -> web.StreamResponse:
        """Return the checkpoints of a file: one, or none."""
        return await self._told(request, lambda files: files.checkpoints.of(_shown(request)))

    async def create_checkpoint(self, request: web.Request) -> web.StreamResponse:
        """Keep a copy of a file as its checkpoint."""
        model = await self._ask(lambda files: files.checkpoints.create(_shown(request)))
        place = f"{prefix_of(request)}/api/contents/{quote(_shown(request))}/checkpoints/{model['id']}"
        return web.Response(body=_encoded(model), status=201, content_type=JSON, headers={"Location": place})

    async def restore_checkpoint(self, request: web.Request) -> web.StreamResponse:
        """Put the checkpoint in the place of its file."""
        await self._ask(lambda files: files.checkpoints.restore(_shown(request), request.match_info["id"]))
        return web.Response(status=204)

    async def delete_checkpoint(self, request: web.Request) -> web.StreamResponse:
        """Delete a checkpoint."""
        await self._ask(lambda files: files.checkpoints.delete(_shown(request), request.match_info["id"]))
        return web.Response(status=204)

    async def download(self, request: web.Request) -> web.StreamResponse:
        """Return the bytes of a file, or a part of them, for browsers to keep."""
        # Not aiohttp's own answer with a file: of a.csv that would give a.csv.gz, where that lies beside it.
        path = _shown(request)
        entry = await self._ask(lambda files: _downloadable(files, path))
        size = entry.size or 0
        start, stop = _part(request, size)
        answer = StreamedAnswer(headers=_download_headers(request, entry))
        answer.content_length = stop - start
        if (start, stop) != (0, size):
            answer.set_status(206)
            answer.headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
        if request.method == "HEAD":
            await answer.prepare(request)
            return answer
        return await self._streamed(request, answer, await self._ask(lambda files: files.place.open(path)), start, stop)

    async def _streamed(
        self, request: web.Request, answer: web.StreamResponse, file: IO[bytes], start: int, stop: int
    ) -> web.StreamResponse:
        """Answer with *file* from byte *start* to *stop*."""
        try:
            await self._run(file.seek, start)
            await answer.prepare(request)
            left = stop - start
            while left and (piece := await self._run(file.read, min(PIECE, left))):
                left -= len(piece)
                await answer.write(piece)
            if left and request.transport is not None:  # it has become shorter: this must not look whole
                request.transport.abort()
            await answer.write_eof()
        finally:
            await self._run(file.close)
        return answer

    # ---- threads ---------------------------------------------------------------------------

    async def _told(
        self, request: web.Request, question: Callable[[Files], Any], *, is_place_told: bool = False
    ) -> web.StreamResponse:
        """Answer with what *question* returns; with *is_place_told* that is a model, and whether it is new."""

        def asked(files: Files) -> tuple[Any, bool, bytes]:
            found = question(files)
            model, is_new = found if is_place_told else (found, False)
            return model, is_new, _encoded(model)

        model, is_new, body = await self._ask(asked)
        headers = {}
        if isinstance(model, dict):
            moment = datetime.fromisoformat(model["last_modified"].replace("Z", "+00:00"))
            headers["Last-Modified"] = format_datetime(moment, usegmt=True)
        if is_place_told:
            headers["Location"] = f"{prefix_of(request)}/api/contents/{quote(model['path'])}"
            return web.Response(body=body, status=201 if is_new else 200, content_type=JSON, headers=headers)
        return await bytes_answer(request, body, content_type=JSON, headers=headers)

    async def _body(self, request: web.Request) -> dict[str, Any] | None:
        size = (BODY_LIMIT if request.content_length is None else request.content_length) if request.body_exists else 0
        with self._room_for(min(size, BODY_LIMIT)):
            body = await whole_body(request, BODY_LIMIT)
            return await self._run(_decoded, body) if body.strip() else None

    @contextmanager
    def _room_for(self, size: int) -> Iterator[None]:
        """Count a body of *size* bytes among the large ones that are here; raises `Refused` if these are too many."""
        size = 0 if size <= SMALL_BODY else size
        if self._large_bodies + size > BODIES_LIMIT:
            raise Refused(503, "large files are being saved: try again later, or send this one in pieces", "busy")
        self._large_bodies += size
        try:
            yield
        finally:
            self._large_bodies -= size

    async def _ask(self, question: Callable[[Files], T]) -> T:
        files = self._files
        if files is None:
            status = await self._surroundings.verbs.status()
            files = self._files = self._files or await self._run(self._open, status.db)
        return await self._run(question, files)

    async def _run(self, work: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, partial(work, *arguments))

    def _open(self, db: str) -> Files:
        if not is_local(self._url):
            return Files(Elsewhere(self._url))
        if not os.path.isdir(self._url):
            raise Refused(503, f"the folder of files, {self._url}, is not there: start the engine with another --files")
        return Files(Folder(self._url, Kept(db, self._surroundings.settings.blobs)))


def _path(request: web.Request) -> str:
    return request.match_info.get("path", "")


def _shown(request: web.Request) -> str:
    """Return the path in the address, which is neither hidden nor the root."""
    path = clean(_path(request))
    if is_hidden(path) or not path:
        raise refuse_missing(path)
    return path


def _downloadable(files: Files, path: str) -> Entry:
    entry = files.place.look(path)
    if entry is None or entry.is_folder:
        raise refuse_missing(path)
    return entry


def _download_headers(request: web.Request, entry: Entry) -> dict[str, str]:
    kind = mimetypes.guess_type(entry.path)[0] or "application/octet-stream"
    manner = "inline" if kind in INLINE and not request.query.get("download") else "attachment"
    return {
        "Content-Type": f"{kind}; charset=utf-8" if kind.startswith("text/") else kind,
        "Content-Disposition": f"{manner}; filename*=utf-8''{quote(name_of(entry.path), safe='')}",
        "Content-Security-Policy": SANDBOX,
        "Accept-Ranges": "bytes",
    }


def _part(request: web.Request, size: int) -> tuple[int, int]:
    """Return from where to where *request* wants a file of *size* bytes: as a whole, unless it says otherwise."""
    try:
        start, stop, _ = request.http_range.indices(size)
    except ValueError:
        raise Refused(416, f"Range {request.headers['Range'][:100]!a} is none of {size} bytes") from None
    if start >= stop and "Range" in request.headers:
        raise Refused(416, f"the file has {size} bytes: nothing of it lies in {request.headers['Range'][:100]!a}")
    return start, stop


def _wanted(request: web.Request) -> Wanted:
    query = request.query
    kind, form = query.get("type"), query.get("format")
    content, digest = query.get("content", "1"), query.get("hash", "0")
    if form not in (None, "text", "base64"):
        raise Refused(400, f"Format {form[:50]!a} is invalid")
    if content not in ("0", "1"):
        raise Refused(400, f"Content {content[:50]!a} is invalid")
    if digest not in ("0", "1"):
        raise Refused(400, f"Hash argument {digest[:50]!a} is invalid. It must be '0' or '1'.")
    return Wanted(kind if kind is None or kind in KINDS else "file", form, content == "1", digest == "1")


def _decoded(body: bytes) -> dict[str, Any]:
    try:
        model = _read_json(body)
    except (ValueError, RecursionError):
        raise Refused(400, "Invalid JSON in body of request") from None
    if not isinstance(model, dict):
        raise Refused(400, f"the body of the request is a JSON object, not {type(model).__name__}")
    return model


def _read_json(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except ValueError:
        return json.loads(body)  # slower, and takes NaN and half characters, which notebooks have


def _encoded(value: Any) -> bytes:
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        return json.dumps(value).encode()  # writes half characters as they came
