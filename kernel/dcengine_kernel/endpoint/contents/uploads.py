"""Files that come in pieces: nothing of one is seen before its last piece is there."""

from __future__ import annotations

import tempfile
import threading
import time
from typing import IO

from ..refusing import Refused
from .places import Place, explained

AT_ONCE = 64  #: uploads
ABANDONED = 3600.0  #: seconds without a piece after which one is forgotten
LAST = -1  #: the number of a last piece


class Uploads:
    """The uploads of a place that are under way, in files without a name."""

    def __init__(self, place: Place, folder: str | None) -> None:
        """Keep what has come of *place*'s uploads on the disk of *folder*, None for that of other such files."""
        self._place, self._folder = place, folder
        self._open: dict[str, tuple[float, IO[bytes]]] = {}  #: when its last piece came, by path
        self._lock = threading.Lock()

    def take(self, path: str, piece: int, data: bytes) -> int:
        """Take a piece of the file *path*, make the file with the last one; return how many bytes have come."""
        if piece == 1:
            self._begin(path)
        with self._lock:
            _, file = self._open.pop(path, (0.0, None))
        if file is None:
            raise Refused(400, f"the upload of {path} has not begun here: start it again", "bad chunk")
        with explained(path):
            file.write(data)
            size = file.tell()
            if piece == LAST:
                with file:
                    file.seek(0)
                    self._place.write(path, file)
            else:
                with self._lock:
                    self._open[path] = (time.monotonic(), file)
        return size

    def _begin(self, path: str) -> None:
        with self._lock:
            self._open.pop(path, None)
            now = time.monotonic()
            for old in [old for old, (last, _) in self._open.items() if now - last > ABANDONED]:
                del self._open[old]
            if len(self._open) >= AT_ONCE:
                raise Refused(429, f"{AT_ONCE} uploads are under way: wait for one of them to end")
            with explained(path):
                self._open[path] = (now, tempfile.TemporaryFile(dir=self._folder))  # noqa: SIM115
