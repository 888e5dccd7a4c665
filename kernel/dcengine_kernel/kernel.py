"""The kernel: ipykernel's own under our name. Whatever it can do, it can because that one can."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from ipykernel.ipkernel import IPythonKernel

from dcengine import __version__

from .banner import banner

STOPPED = "interrupted around the code of the cell, not in it"


class DcengineKernel(IPythonKernel):
    """An IPython kernel that says that it is ours, and which engine it uses.

    A stop that comes while a cell is taken or its answer sent does not cost the answer: front ends would wait for ever.
    """

    implementation = "dcengine"
    implementation_version = __version__
    _is_stopped = False  #: there was an interrupt since the cell was taken

    @property
    def banner(self) -> str:  # type: ignore[override]
        """What a console shows first; made anew for whoever asks."""
        return f"{super().banner or ''}\n{banner(self.shell)}\n"

    async def execute_request(self, stream: Any, ident: Any, parent: Any) -> None:
        """Run a cell and answer, whenever an interrupt comes."""
        self._is_stopped = False
        _hear_interrupts_with(self._note_stop)
        await super().execute_request(stream, ident, parent)  # type: ignore[no-untyped-call]

    async def do_execute(self, *args: Any, **options: Any) -> dict[str, Any]:
        """Run the code of a cell, which an interrupt stops."""
        try:
            _hear_interrupts_with(signal.default_int_handler)
            if self._is_stopped:
                raise KeyboardInterrupt
            reply: dict[str, Any] = await super().do_execute(*args, **options)  # type: ignore[no-untyped-call]
        except KeyboardInterrupt:
            return self._stopped()
        finally:
            _hear_interrupts_with(self._note_stop)
        return reply

    def _note_stop(self, number: int, frame: FrameType | None) -> None:
        self._is_stopped = True

    def _stopped(self) -> dict[str, Any]:
        """Show that the cell was stopped; return what its request is answered with."""
        _hear_interrupts_with(self._note_stop)
        error = {"ename": "KeyboardInterrupt", "evalue": STOPPED, "traceback": [f"KeyboardInterrupt: {STOPPED}"]}
        self.send_response(self.iopub_socket, "error", error)  # type: ignore[no-untyped-call]
        return {
            **error, "status": "error", "execution_count": self.execution_count, "user_expressions": {}, "payload": []
        }  # fmt: skip


def _hear_interrupts_with(handler: Callable[[int, FrameType | None], Any]) -> None:
    """Have *handler* called by interrupts; they are heard on the main thread, and cells of subshells run on others."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, handler)
