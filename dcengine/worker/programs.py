"""A program that runs for a task: started, listened to, held up, ended with all that it has started."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Callable, Sequence
from typing import IO

from .keeper import PATIENCE, Keeper, end_politely, is_group, signal_group

DRAIN_SECONDS = 1.0  #: for what the program wrote before its end to be read
LOOK_SECONDS = 0.05  #: between two looks at what an ended program has left running


class _Stream(asyncio.Protocol):
    """One of its streams; *on_data* gets what comes."""

    def __init__(self, on_data: Callable[[bytes], None]) -> None:
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._on_data = on_data

    def data_received(self, data: bytes) -> None:
        self._on_data(data)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_result(None)


class Program:
    """A program in a process group of its own, from its start to its end."""

    def __init__(self, process: asyncio.subprocess.Process, keeper: Keeper) -> None:
        self._process, self._keeper = process, keeper
        self._transports: list[asyncio.ReadTransport] = []
        self._streams: list[_Stream] = []
        self._patience_ends = 0.0  #: when all that is left of it is killed, by the loop's clock

    @classmethod
    async def start(
        cls,
        words: Sequence[str],
        keeper: Keeper,
        *,
        stdin: IO[bytes] | int,
        on_output: Callable[[bytes], None],
        on_message: Callable[[bytes], None],
        environment: dict[str, str],
    ) -> Program:
        """Start *words*; raises `OSError` where they cannot be."""
        ours, theirs = zip(os.pipe(), os.pipe(), strict=True)
        try:
            # Pipes of our own: asyncio's keep a process from ending while anybody else holds them.
            process = await asyncio.create_subprocess_exec(
                *words, stdin=stdin, stdout=theirs[0], stderr=theirs[1], start_new_session=True, env=environment
            )
        except BaseException:
            for end in ours:
                os.close(end)
            raise
        finally:
            for end in theirs:
                os.close(end)
        keeper.add(process.pid)
        program = cls(process, keeper)
        for end, on_data in zip(ours, (on_output, on_message), strict=True):
            await program._listen(end, on_data)
        return program

    async def _listen(self, end: int, on_data: Callable[[bytes], None]) -> None:
        stream = _Stream(on_data)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: stream, os.fdopen(end, "rb", 0))
        self._transports.append(transport)
        self._streams.append(stream)

    async def wait(self) -> int:
        """Wait for its end; return its exit code, or the signal below zero. Ends what it has left behind."""
        code = await self._process.wait()
        while is_group(self._process.pid) and asyncio.get_running_loop().time() < self._patience_ends:
            await asyncio.sleep(LOOK_SECONDS)  # a shell ends before what it runs has put things in order
        signal_group(self._process.pid, signal.SIGKILL)
        await asyncio.wait([stream.ended for stream in self._streams], timeout=DRAIN_SECONDS)
        for transport in self._transports:  # somebody who has left its group may still hold it open
            transport.close()
        self._keeper.discard(self._process.pid)
        return code

    async def end(self) -> None:
        """Ask it and all that it has started to end, and kill what does not."""
        self._patience_ends = asyncio.get_running_loop().time() + PATIENCE
        end_politely(self._process.pid)
        try:
            await asyncio.wait_for(self._process.wait(), PATIENCE)
        except asyncio.TimeoutError:
            self.kill()

    def kill(self) -> None:
        """End it and all that it has started, at once."""
        signal_group(self._process.pid, signal.SIGKILL)

    def hold_up(self) -> None:
        """Let it do nothing until it is to go on."""
        signal_group(self._process.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it go on."""
        signal_group(self._process.pid, signal.SIGCONT)


NOTHING = subprocess.DEVNULL  #: what a program reads that is given nothing
