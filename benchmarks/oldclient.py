"""LAION's client, unmodified: how many jobs a second it gets through. ``python -m benchmarks.oldclient URL N``."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import logging
import sys
import time

WARM_UP = 30  #: cycles


def main() -> None:
    url, count = sys.argv[1], int(sys.argv[2])
    package = importlib.import_module("distcompute_client")
    logging.disable(logging.CRITICAL)
    said = io.StringIO()  # it prints each step: that is part of what it costs
    with contextlib.redirect_stdout(said):
        client = package.init(url=url, stage="a", nickname="benchmark", verbose=False)
        for number in range(WARM_UP + count):
            if number == WARM_UP:
                started = time.perf_counter()
            client.new_job()
            client.complete_job("done")
        seconds = time.perf_counter() - started
        client.bye()
    print(json.dumps({"cycles_per_second": count / seconds}))


if __name__ == "__main__":
    main()
