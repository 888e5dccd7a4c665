"""What a worker has said of its tasks and the engine has not heard yet: sent in order and in groups until answered."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

from ..errors import AccessDenied, ContributorBanned, DcengineError
from ..verbs import Completion, TaskAnswer, TaskFailure, TaskFlag
from .asking import Asking
from .held import Holding, Word

GROUP, GROUP_BYTES = 1000, 8 << 20  #: of what is said in one request

Entry = tuple[Holding, Word]


class Outbox:
    """Sends words; *on_answer* hears what became of each, *on_denied* that nothing is taken any more."""

    def __init__(
        self,
        asking: Asking,
        on_answer: Callable[[Holding, Word, TaskAnswer], None],
        on_denied: Callable[[DcengineError], None],
    ) -> None:
        self._asking, self._on_answer, self._on_denied = asking, on_answer, on_denied
        self._entries: deque[Entry] = deque()
        self._sending: asyncio.Task[None] | None = None

    def put(self, holding: Holding, word: Word) -> None:
        """Send *word*, after all that was put before."""
        self._entries.append((holding, word))
        if self._sending is None:
            self._sending = asyncio.ensure_future(self._send_all())

    async def flush(self) -> None:
        """Wait until all that was put has been answered."""
        while self._sending is not None:
            await asyncio.wait({self._sending})

    async def close(self) -> None:
        """Stop sending."""
        if self._sending is not None:
            self._sending.cancel()
            await asyncio.wait({self._sending})

    async def _send_all(self) -> None:
        # While one group is on its way the next one gathers.
        try:
            while self._entries:
                await self._send(self._next_group())
        finally:
            self._sending = None

    def _next_group(self) -> list[Entry]:
        """Take the first words of one kind, as many as one request may hold."""
        group, size = [self._entries.popleft()], 0
        kind = type(group[0][1])
        while self._entries and len(group) < GROUP and isinstance(self._entries[0][1], kind):
            size += _size(self._entries[0][1])
            if size > GROUP_BYTES:
                break
            group.append(self._entries.popleft())
        return group

    async def _send(self, group: list[Entry]) -> None:
        try:
            answers = await self._ask([word for _, word in group])
        except (AccessDenied, ContributorBanned) as denied:
            self._on_denied(denied)
            self._refuse(group, denied)
        except DcengineError as error:
            if len(group) > 1:  # one that cannot be taken does not spoil the others
                for entry in group:
                    await self._send([entry])
            else:
                self._refuse(group, error)
        else:
            for (holding, word), answer in zip(group, answers, strict=True):
                self._on_answer(holding, word, answer)

    def _refuse(self, group: list[Entry], error: DcengineError) -> None:
        for holding, word in group:
            self._on_answer(holding, word, TaskAnswer(token=holding.token, is_accepted=False, problem=str(error)))

    async def _ask(self, words: Sequence[Word]) -> list[TaskAnswer]:
        kind = type(words[0])
        if kind is Completion:
            return await self._asking.complete([word for word in words if isinstance(word, Completion)])
        if kind is TaskFailure:
            return await self._asking.fail([word for word in words if isinstance(word, TaskFailure)])
        if kind is TaskFlag:
            return await self._asking.flag([word for word in words if isinstance(word, TaskFlag)])
        return await self._asking.release([word.token for word in words])


def _size(word: Word) -> int:
    return memoryview(word.output).nbytes if isinstance(word, Completion) else 0
