"""A process that forks while it is connected to an engine: neither it nor its child loses its way there."""

from __future__ import annotations

import gc
import os
import time
from pathlib import Path

import dcengine
from tests.engines import served


def test_a_fork_leaves_the_connections_of_the_parent_as_they_are(tmp_path: Path) -> None:
    with served(tmp_path / "work.db", "--no-kernels", "--threads", workers=0):
        for _ in range(5):
            dcengine.api.current().call("status")
            child = os.fork()
            if child == 0:
                gc.collect()
                os._exit(0)
            os.waitpid(child, 0)
            began = time.monotonic()
            dcengine.api.current().call("status")
            assert time.monotonic() - began < 20  # an answer that is not heard is asked for again after a minute
