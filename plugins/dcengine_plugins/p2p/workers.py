"""A worker of the old farm, and the chunk of frames that it has."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from ..render.old_farm import Order
from .wire import Wire, around

PATIENCE_SECONDS = 3600.0  #: for the first frame of a chunk: nobody knows yet how long one takes
LEAST_PATIENCE_SECONDS = 300.0  #: once that is known
TIMES_SLOWER = 10.0  #: than the slowest frame of the chunk so far each that is left may be
SLOW_SECONDS = 2.0  #: for which a chunk has to have been under way before another worker helps with it


@dataclass
class Chunk:
    """Consecutive frames that one worker renders."""

    project: str
    order: Order  #: the first of them
    owed: set[int]  #: that have not come yet
    is_shared: bool = False  #: another worker renders some of them too
    number: int = 0  #: among those of its worker
    heard: float = field(default_factory=time.monotonic)  #: when it began, or a frame of it came
    began: float = field(default_factory=time.monotonic)
    slowest: float | None = None  #: seconds for which it was waited for a frame

    @property
    def shown(self) -> str:
        return f"{min(self.owed)}-{max(self.owed)}" if len(self.owed) > 1 else str(*self.owed)

    def done(self, frame: int) -> float | None:
        """Take note that *frame* has come; return the seconds since the one before, None for the first one."""
        now = time.monotonic()
        seconds = now - self.heard
        is_first = self.slowest is None
        self.slowest = max(self.slowest or 0.0, seconds)
        self.heard = now
        self.owed.discard(frame)
        return None if is_first else seconds

    @property
    def patience(self) -> float:
        """For how many seconds nothing of it may come: a worker may send its frames when it has them all."""
        if self.slowest is None:
            return PATIENCE_SECONDS
        return max(LEAST_PATIENCE_SECONDS, TIMES_SLOWER * self.slowest * len(self.owed))

    @property
    def is_overdue(self) -> bool:
        """Whether nothing of it came for too long."""
        return time.monotonic() - self.heard > self.patience

    @property
    def is_slow(self) -> bool:
        """Whether another worker may well be faster with its second half."""
        return len(self.owed) > 1 and not self.is_shared and time.monotonic() - self.began > SLOW_SECONDS


class OldWorker:
    """One connection of a worker."""

    def __init__(self, wire: Wire, id: str) -> None:
        self.name = f"p2p-{id}"  #: as contributor and in the dashboard
        self.peer = wire.peer
        self.chunk: Chunk | None = None
        self.reason = ""  #: why it was hung up on
        self._wire, self._chunks = wire, 0

    @property
    def is_overdue(self) -> bool:
        """Whether it owes frames, and none came for too long."""
        return self.chunk is not None and self.chunk.is_overdue

    def hang_up(self, reason: str) -> None:
        """End its connection, for a *reason*."""
        self.reason = reason
        self._wire.hang_up()

    async def order(self, chunk: Chunk, scene: bytes, id: str) -> None:
        """Ask for the frames of *chunk*, of *scene* in base64. Raises `OSError`, `TimeoutError`."""
        self._chunks += 1
        order, fps = chunk.order, chunk.order.fps
        task = {
            "file_name": order.file_name, "file": "", "start_frame": min(chunk.owed), "end_frame": max(chunk.owed),
            "fps": int(fps) if fps == int(fps) else fps, "task_id": id,
        }  # fmt: skip
        message = {
            "commander_id": order.commander, "message": task, "timestamp": time.time(), "message_id": id,
            "message_type": "task", "chunk_number": self._chunks,
        }  # fmt: skip
        head, tail = around(message, "file")

        async def pieces() -> AsyncIterator[bytes]:
            for piece in (head, scene, tail):
                yield piece

        await self._wire.send_pieces(len(head) + len(scene) + len(tail), pieces())
