"""What front ends say to widgets, on its way to the code that runs elsewhere: in order, and nobody waits for it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue

from dcengine.errors import DcengineError

from .comm_words import Word, encode_words

TOGETHER = 1 << 20  #: bytes of buffers in messages that travel together


class Telling:
    """Sends words by *tell* from a thread of its own; several at once where they come faster than they go."""

    def __init__(
        self,
        tell: Callable[[bytes], bool],
        *,
        on_lost: Callable[[list[Word]], None],
        on_error: Callable[[DcengineError], None],
    ) -> None:
        self._tell, self._on_lost, self._on_error = tell, on_lost, on_error
        self._words: SimpleQueue[Word | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def say(self, word: Word) -> None:
        """Send *word* after those before it."""
        self._words.put(word)
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="dcengine-telling", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """Send no more, once those before are sent."""
        self._words.put(None)

    def _run(self) -> None:
        while (word := self._words.get()) is not None:
            words, is_last = self._with_those_behind(word)
            try:
                if not self._tell(encode_words(words)):
                    self._on_lost(words)
            except DcengineError as error:
                self._on_error(error)
            if is_last:
                return

    def _with_those_behind(self, word: Word) -> tuple[list[Word], bool]:
        """Return *word* and what else waits, as much as may go together, and whether nothing will follow."""
        words, size = [word], sum(map(len, word.buffers))
        while size < TOGETHER:
            try:
                following = self._words.get_nowait()
            except Empty:
                break
            if following is None:
                return words, True
            words.append(following)
            size += sum(map(len, following.buffers))
        return words, False
