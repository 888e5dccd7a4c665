"""A thread that does what must not be done on an engine's: unpack values, call callbacks."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from queue import SimpleQueue

logger = logging.getLogger(__name__)


class Teller:
    """Does what it is told, one thing after the other, on a thread that begins with the first of them."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._news: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._is_stopped = False

    def tell(self, news: Callable[[], object]) -> None:
        """Have *news* called."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
            self._news.put(news)
            if self._is_stopped:
                self._end_thread()

    def stop(self) -> None:
        """End the thread once it has done what it was told; what comes later is done on one that ends with it."""
        with self._lock:
            self._is_stopped = True
            if self._thread is not None:
                self._end_thread()

    def _end_thread(self) -> None:
        self._thread = None
        self._news.put(None)

    def _run(self) -> None:
        while (news := self._news.get()) is not None:
            try:
                news()
            except Exception:
                logger.exception("telling of a job's end failed")
