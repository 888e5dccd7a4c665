"""Callers who hang up in the middle of an answer."""

from __future__ import annotations

import gc
import socket
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from aiohttp import web

import dcengine
from tests.engines import embedded, eventually

SIZE = 24 << 20  #: more than the connection itself takes


def answers() -> list[object]:
    """Return the answers that are in memory, needed or not."""
    return [each for each in gc.get_objects() if isinstance(each, web.StreamResponse)]


@pytest.mark.parametrize("path", ["/v1/values/{}/content?size=16777216", "/v1/values/{}/bytes", "/v1/jobs/1/result"])
def test_who_hangs_up_in_the_middle_of_an_answer_leaves_none_of_it_in_memory_and_is_no_error(
    tmp_path: Path, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    with embedded(tmp_path / "work.db", workers=1, processes=False) as engine:
        dcengine.submit(bytes, SIZE).result(30)
        address, digest = urlsplit(engine.url), dcengine.put(bytes(SIZE)).digest
        head = f"GET {path.format(digest)} HTTP/1.1\r\nHost: {address.netloc}\r\n"
        head += f"Authorization: Bearer {engine.token}\r\n\r\n"
        gc.collect()
        gc.disable()
        try:
            for _ in range(3):
                with socket.socket() as line:
                    line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                    line.connect((address.hostname, address.port))
                    line.sendall(head.encode())
                    assert line.recv(15) == b"HTTP/1.1 200 OK"
                    assert answers()
            eventually(lambda: not answers())
        finally:
            gc.enable()
    assert not [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")]
