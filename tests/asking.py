"""How front ends ask a Jupyter server, ours or another one, about files."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

import pytest

from tests.engines import embedded, end, eventually

TOKEN = "secret-of-the-test"


class Reply(NamedTuple):
    """An answer, and what it is as JSON if it is that."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Asker:
    """Somebody with the token of a Jupyter server."""

    def __init__(self, url: str, token: str) -> None:
        self.url, self.token = url.partition("/?")[0].rstrip("/"), token

    def ask(self, method: str, path: str, body: object = None, *, scheme: str = "Token", **headers: str) -> Reply:
        """Ask for *path*, written as it stands, with *body* as JSON, or as the bytes it is."""
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=30)
        try:
            given = {"Authorization": f"{scheme} {self.token}", "Content-Type": "application/json", **headers}
            connection.request(method, path, data, given)
            answer = connection.getresponse()
            return Reply(answer.status, dict(answer.headers), answer.read())
        finally:
            connection.close()

    def contents(self, method: str, path: str = "", body: object = None, query: str = "") -> Reply:
        """Ask the contents API about *path*, a path as people write it."""
        return self.ask(method, f"/api/contents/{quote(path)}{query}", body)


@contextmanager
def files_engine(folder: Path, files: str | None = None, **more: object) -> Iterator[Asker]:
    """An engine in *folder*, its files those of *files*, which is the same folder unless told; a bin is beside it."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("XDG_DATA_HOME", "JUPYTER_DATA_DIR"):
            patch.setenv(name, str(folder.parent / f"{folder.name}-home"))
        options = {"workers": 0, "processes": False, "kernels": True, "files": files or str(folder), **more}
        with embedded(folder / "dcengine.db", **options) as engine:
            yield Asker(engine.url, engine.token)  # type: ignore[attr-defined]


@contextmanager
def stock_server(root: Path, home: Path) -> Iterator[Asker]:
    """A stock jupyter_server process whose files are those of *root*; what it remembers lies below *home*."""
    ready = home / "ready"
    code = (
        "import sys; from jupyter_server.serverapp import ServerApp; app = ServerApp();"
        "app.initialize(sys.argv[2:]); open(sys.argv[1], 'w').write(str(app.port)); app.start()"
    )
    options = [f"--ServerApp.root_dir={root}", f"--IdentityProvider.token={TOKEN}", "--ServerApp.open_browser=False"]
    options += ["--allow-root", "--ServerApp.port=0", "--ServerApp.jpserver_extensions={}", "--ServerApp.ip=127.0.0.1"]
    places = {name: str(home) for name in ("HOME", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "XDG_DATA_HOME")}
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(ready), *options], env={**os.environ, **places}, stderr=subprocess.DEVNULL
    )
    try:
        port = eventually(lambda: ready.exists() and ready.read_text())
        asker = Asker(f"http://127.0.0.1:{port}", TOKEN)
        eventually(lambda: _answers(asker))
        yield asker
    finally:
        end(process)  # type: ignore[arg-type]


def _answers(asker: Asker) -> bool:
    try:
        return asker.ask("GET", "/api").status == 200
    except OSError:
        time.sleep(0.05)
        return False
