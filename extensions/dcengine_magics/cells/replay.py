"""What a remote cell says, said again in the notebook's own shell, where and as the cell itself would have."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from copy import copy
from typing import TYPE_CHECKING, Any, TextIO

import msgspec

from dcengine.codec import message_of
from dcengine.verbs import Line

from .comms import RelayedComms

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell


AGAIN = "; it runs again"  #: ends the notes that say so


class RemoteError(msgspec.Struct, frozen=True):
    """An error as the cell's shell showed it."""

    name: str
    value: str
    traceback: tuple[str, ...]


class Replay:
    """Says lines of a remote cell in *shell*; an error is kept, since the cell may run again."""

    def __init__(self, shell: InteractiveShell, number: int) -> None:
        self.error: RemoteError | None = None  #: the last that was said, if it was one
        self.value: Any = None  #: that of the last expression, once it is here
        self.shown: dict[str, Any] | None = None  #: how the last expression's value looks, by mime type
        self._shell = shell
        self._number = number  #: of the cell, for its Out[number]
        # What a background cell says must not land in the ``%%capture`` of a cell that runs by then.
        self._streams = {"stdout": sys.stdout, "stderr": sys.stderr}
        self._publisher = shell.display_pub
        self._captured: list[dict[str, Any]] | None = getattr(sys.displayhook, "outputs", None)  # of a ``%%capture``
        self._stream: TextIO | None = None
        self.comms = RelayedComms(shell)  #: the widgets that the cell makes

    def say(self, line: Line) -> None:
        """Say *line*, after all lines before it."""
        if self.error is not None:
            self._forget_error(line)
        if line.kind in ("stdout", "stderr"):
            self._print(self._streams[line.kind], line.text)
        elif line.kind == "note":
            self.note(line.text)
        elif line.kind == "error":
            self.error = msgspec.json.decode(line.text, type=RemoteError)
        elif line.kind == "comm":
            self._flush()
            self.comms.say(line.text)
        else:
            self._show(line.kind, msgspec.json.decode(line.text))

    def note(self, text: str) -> None:
        """Say something that comes from the engine or from us."""
        self._print(self._streams["stderr"], f"{text}\n")

    def end(self) -> None:
        """Say what was kept; the cell ended well, so its last error was only shown."""
        if self.error is not None:
            self.note("\n".join(self.error.traceback))
        self._flush()

    def show_value(self, value: object) -> None:
        """Show *value* as the cell's result; other cells may run meanwhile."""
        self._flush()
        formatter: Any = self._shell.display_formatter
        data, metadata = formatter.format(value)
        if data:  # else it has shown itself
            self._show_result({"data": data, "metadata": metadata})

    def show_error(self, error: BaseException, lines: Sequence[str]) -> None:
        """Show *error* as the cell's own, *lines* for people; other cells may run meanwhile."""
        self._flush()
        hook: Any = self._shell.displayhook
        socket = getattr(hook, "pub_socket", None)
        if socket is None:  # no kernel
            self.note("\n".join(lines))
            return
        content = {"ename": type(error).__name__, "evalue": message_of(error), "traceback": list(lines)}
        topic = (hook.topic or b"").replace(b"execute_result", b"error")
        hook.session.send(socket, "error", content, hook.parent_header, ident=topic)

    def remember(self, value: object) -> None:
        """Let ``_`` and ``Out`` of the notebook have *value* of the last expression."""
        self.value = value
        hook = self._shell.displayhook
        if hook.prompt_count == self._number:
            hook.update_user_ns(value)
        else:  # a cell in a subshell has begun meanwhile
            self._shell.user_ns["_oh"][self._number] = value
            self._shell.push({f"_{self._number}": value}, interactive=False)
        hook.fill_exec_result(value)

    def _forget_error(self, next_line: Line) -> None:
        if next_line.kind != "note":
            self.note(f"{self.error.name}: {self.error.value}; the cell goes on")  # type: ignore[union-attr]
        elif not next_line.text.endswith(AGAIN):
            return  # it speaks of the error: which worker is spared from now on, say
        self.error = None

    def _print(self, stream: TextIO, text: str) -> None:
        if stream is not self._stream:
            self._flush()
            self._stream = stream
        stream.write(text)

    def _flush(self) -> None:
        if self._stream is not None:
            self._stream.flush()

    def _show(self, kind: str, content: dict[str, Any]) -> None:
        self._flush()
        if kind == "clear":
            self._publisher.clear_output(wait=content["wait"])
        elif kind == "result":
            self._show_result({**content, "data": self.comms.shown(content["data"])})
        elif kind in ("display", "update"):
            self._publisher.publish(
                self.comms.shown(content["data"]),
                content["metadata"],
                transient=content["transient"],
                update=kind == "update",
            )

    def _show_result(self, content: dict[str, Any]) -> None:
        self.shown = content["data"]
        if self._captured is not None:
            self._captured.append({"data": content["data"], "metadata": content["metadata"]})
            return
        # The shell's own hook keeps a message from its start to its end, and a subshell may use it meanwhile.
        hook = copy(self._shell.displayhook)
        hook.start_displayhook()
        hook.write_output_prompt()
        message = getattr(hook, "msg", None)
        if message:
            message["content"]["execution_count"] = self._number
        hook.write_format_data(content["data"], content["metadata"])
        hook.finish_displayhook()


class LateReplay(Replay):
    """Says lines of a cell after which others have run, or may: their ``_`` and ``Out`` stay theirs."""

    def remember(self, value: object) -> None:
        """Keep *value* for whoever asks the cell's handle."""
        self.value = value


class RemoteValue:
    """Stands for a value that stayed on the worker, and looks like it."""

    def __init__(self, looks: dict[str, Any]) -> None:
        self._looks = looks

    def __repr__(self) -> str:
        return str(self._looks.get("text/plain", "<a value that stayed on its worker>"))

    def _repr_mimebundle_(self, **_: object) -> dict[str, Any]:
        return dict(self._looks)
