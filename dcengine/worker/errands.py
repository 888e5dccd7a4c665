"""One task's command from its start to its end: given its input, listened to, cut short where it must be, judged."""

from __future__ import annotations

import asyncio
import errno
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import IO, Any, NamedTuple

import msgspec

from ..errors import InvalidOption, PayloadTooLarge
from ..runner.reports import cause_of
from ..verbs import Progress
from . import commands
from .commands import CommandLine, End, Judgement, Verdict
from .keeper import Keeper
from .programs import NOTHING, Program
from .reports import Messages, Output, Reports

TOKEN_VARIABLE = "DCENGINE_TOKEN"  # commands print their environment, and what they print is told


class Assignment(msgspec.Struct, frozen=True):
    """What a command is told of its task."""

    raw: str  #: the input as JSON text
    job: int
    number: int


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """How commands are run and judged."""

    timeout: float | None = None  #: seconds for one command; those in which it is held up do not count
    output_limit: int = 64 << 20  #: bytes that a command may write as its output
    as_json: bool = False  #: whether what it writes is a JSON value, not text


class Cut(Enum):
    """Why a command is ended before it ends by itself."""

    TIMEOUT = "it took longer than --timeout allows"
    TOO_LARGE = "its output is too large"
    CANCELLED = "nobody wants it any more"
    STOPPED = "the worker is to end"


class _Files(NamedTuple):
    """What a command reads and writes beside its streams."""

    words: list[str]
    stdin: IO[bytes] | int
    output: Path | None


class Errand:
    """A command that is run for one task; *on_line* hears what it writes to stderr."""

    def __init__(
        self,
        command: CommandLine,
        rules: Rules,
        keeper: Keeper,
        on_line: Callable[[str], None],
    ) -> None:
        self._command, self._rules, self._keeper = command, rules, keeper
        self._reports = Reports()
        self._output = Output(self._reports, rules.output_limit)
        self._messages = Messages(self._reports, on_line)
        self._program: Program | None = None
        self._loop = asyncio.get_running_loop()
        self._cut: asyncio.Future[Cut] = self._loop.create_future()
        self._timer: asyncio.TimerHandle | None = None
        self._left = rules.timeout  #: seconds until it is cut, as of when it was last held up
        self._is_held_up = False

    async def run(self, task: Assignment) -> Judgement:
        """Run the command for *task*; return what is to be said of that.

        Raises `OSError` where the program cannot be started, whatever its task.
        """
        try:
            with self._files(task) as files:
                return await self._run(files)
        except InvalidOption as error:
            return Judgement(Verdict.FAIL, reason=str(error))
        except OSError as error:
            if error.errno != errno.E2BIG:
                raise
            reason = "its input is longer than an argument may be; use {file} in place of {input}, or stdin"
            return Judgement(Verdict.FAIL, reason=reason)

    def news(self) -> Progress | None:
        """Return how far the command is, once whenever that has changed."""
        return self._reports.news()

    def cut(self, why: Cut) -> None:
        """End the command before its time."""
        if not self._cut.done():
            self._cut.set_result(why)

    def kill(self) -> None:
        """End the command at once."""
        self.cut(Cut.STOPPED)
        if self._program is not None:
            self._program.kill()

    def hold_up(self) -> None:
        """Let the command do nothing until `go_on`."""
        if self._is_held_up:
            return
        self._is_held_up = True
        if self._timer is not None:
            self._left = self._timer.when() - self._loop.time()
            self._timer.cancel()
        if self._program is not None:
            self._program.hold_up()

    def go_on(self) -> None:
        """Let the command go on."""
        if self._is_held_up:
            self._is_held_up = False
            self._set_timer()
            if self._program is not None:
                self._program.go_on()

    # ---- before ----------------------------------------------------------------------------

    @contextmanager
    def _files(self, task: Assignment) -> Iterator[_Files]:
        """Give the arguments for *task*, and the files that they speak of, for as long as the command runs."""
        text = commands.text_of(task.raw)
        with tempfile.TemporaryDirectory(prefix="dcengine-", ignore_cleanup_errors=True) as folder:
            paths = {name: Path(folder, name) for name in ("input", "output")}
            if "file" in self._command.places:
                paths["input"].write_bytes(text)
            words = self._command.filled(
                input=os.fsdecode(text), file=paths["input"], output=paths["output"], job=task.job, number=task.number
            )
            output = paths["output"] if "output" in self._command.places else None
            if self._command.takes_input:
                yield _Files(words, NOTHING, output)
                return
            with tempfile.TemporaryFile() as stdin:
                stdin.write(commands.line_of(text))
                stdin.seek(0)
                yield _Files(words, stdin, output)

    # ---- meanwhile -------------------------------------------------------------------------

    async def _run(self, files: _Files) -> Judgement:
        if self._cut.done():
            return Judgement(Verdict.RETURN, reason=self._cut.result().value)
        environment = {name: value for name, value in os.environ.items() if name != TOKEN_VARIABLE}
        program = self._program = await Program.start(
            files.words,
            self._keeper,
            stdin=files.stdin,
            on_output=self._hear,
            on_message=self._messages.feed,
            environment=environment,
        )
        self._set_timer()
        if self._is_held_up:
            program.hold_up()
        code = await self._end_of(program)
        self._output.finish()
        self._messages.finish()
        return self._judge(code, files.output)

    async def _end_of(self, program: Program) -> int:
        """Wait for the end of *program*, which is brought about where it was cut."""
        ended = asyncio.ensure_future(program.wait())
        try:
            first: set[asyncio.Future[Any]] = {ended, self._cut}
            await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
            if not ended.done():
                await program.end()
            return await ended
        finally:
            if self._timer is not None:
                self._timer.cancel()
            if not ended.done():
                program.kill()
                ended.cancel()

    def _hear(self, data: bytes) -> None:
        self._output.feed(data)
        if self._output.is_too_large and "output" not in self._command.places:
            self.cut(Cut.TOO_LARGE)

    def _set_timer(self) -> None:
        if self._left is not None and self._program is not None and not self._is_held_up:
            self._timer = self._loop.call_later(max(0.0, self._left), self.cut, Cut.TIMEOUT)

    # ---- afterwards ------------------------------------------------------------------------

    def _judge(self, code: int, output: Path | None) -> Judgement:
        end = End(code, cause_of(-code if code < 0 else code << 8), self._reports.failure, self._messages.end())
        cut = self._cut.result() if self._cut.done() else None
        if cut in (Cut.STOPPED, Cut.CANCELLED):
            return Judgement(Verdict.RETURN, reason=cut.value)
        if cut is Cut.TIMEOUT:
            limit = f"took longer than --timeout {self._rules.timeout:g} s"
            return Judgement(Verdict.FAIL, reason=end._replace(cause=limit).why())
        return commands.judged(end, self._written(output), as_json=self._rules.as_json)

    def _written(self, output: Path | None) -> bytes | PayloadTooLarge:
        """Return the output: what is in the file for it, else what was written to stdout."""
        found = None if output is None else commands.file_text(output, self._rules.output_limit)
        if found is not None:
            return found
        if self._output.is_too_large:
            return PayloadTooLarge("the output of the command", self._output.size, self._rules.output_limit)
        return self._output.value()
