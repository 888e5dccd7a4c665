"""Real kernels for tests, spoken to as front ends do, every message kept."""

from __future__ import annotations

import queue
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager

from .engines import environment

PATIENCE = 60.0  #: seconds for a kernel to say something


@dataclass
class Executed:
    """One execution: its reply, and what iopub said under its header, in order."""

    reply: dict[str, Any]
    messages: list[dict[str, Any]] = field(default_factory=list)

    def contents(self, *kinds: str) -> list[dict[str, Any]]:
        """Return the contents of the messages of *kinds*, of all but ``status`` and ``execute_input`` without any."""
        return [
            message["content"]
            for message in self.messages
            if message["msg_type"] in kinds or (not kinds and message["msg_type"] not in ("status", "execute_input"))
        ]

    def text(self, stream: str = "stdout") -> str:
        """Return all text of *stream*."""
        return "".join(content["text"] for content in self.contents("stream") if content["name"] == stream)

    @property
    def kinds(self) -> list[str]:
        """The types of the messages in between, in order."""
        return [m["msg_type"] for m in self.messages if m["msg_type"] not in ("status", "execute_input")]

    @property
    def error(self) -> str:
        """The traceback of the error message, empty without one."""
        return "\n".join("\n".join(content["traceback"]) for content in self.contents("error"))


class Kernel:
    """A running kernel and one client of it."""

    def __init__(self, manager: KernelManager, client: BlockingKernelClient) -> None:
        self.manager, self.client = manager, client
        self._heard: list[dict[str, Any]] = []
        self._replies: dict[str, dict[str, Any]] = {}

    def execute(self, code: str, **options: Any) -> Executed:
        """Execute *code* and wait for its end."""
        return self.finish(self.start(code, **options))

    def start(self, code: str, *, subshell: str | None = None, **options: Any) -> str:
        """Ask for *code* to be executed and return the id of the request."""
        options = {"silent": False, "store_history": True, "allow_stdin": False, "stop_on_error": True} | options
        message = self.client.session.msg("execute_request", {"code": code, "user_expressions": {}, **options})
        if subshell is not None:
            message["header"]["subshell_id"] = subshell
        self.client.shell_channel.send(message)
        return str(message["header"]["msg_id"])

    def finish(self, request: str, patience: float = PATIENCE) -> Executed:
        """Wait for the end of *request*: its reply, and its idle on iopub."""
        self.hear(request, lambda message: message["content"].get("execution_state") == "idle", patience)
        deadline = time.monotonic() + patience
        while request not in self._replies:
            reply = self.client.get_shell_msg(timeout=max(0.1, deadline - time.monotonic()))
            self._replies[reply["parent_header"].get("msg_id", "")] = reply
        return Executed(self._replies[request]["content"], self.said(request))

    def said(self, request: str) -> list[dict[str, Any]]:
        """Return what iopub said of *request* so far."""
        return [message for message in self._heard if message["parent_header"].get("msg_id") == request]

    def hear(self, request: str, wanted: Any, patience: float = PATIENCE) -> dict[str, Any]:
        """Wait for a message of *request* that is *wanted*; return it."""
        for message in self.said(request):
            if wanted(message):
                return message
        deadline = time.monotonic() + patience
        while True:
            try:
                message = self.client.get_iopub_msg(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"not heard in {patience:g} s; so far: {self.said(request)}") from None
            self._heard.append(message)
            if message["parent_header"].get("msg_id") == request and wanted(message):
                return message

    @property
    def heard(self) -> list[dict[str, Any]]:
        """All that iopub said so far, of whatever request."""
        return self._heard

    def listen(self, patience: float) -> bool:
        """Wait for whatever iopub says next; return False if that is nothing."""
        try:
            self._heard.append(self.client.get_iopub_msg(timeout=max(0.0, patience)))
        except queue.Empty:
            return False
        return True

    def create_subshell(self) -> str:
        """Return the id of a new subshell."""
        message = self.client.session.msg("create_subshell_request", {})
        self.client.control_channel.send(message)
        return str(self.client.get_control_msg(timeout=PATIENCE)["content"]["subshell_id"])

    def interrupt(self) -> None:
        """Press the stop button."""
        self.manager.interrupt_kernel()


@contextmanager
def kernel(folder: Path, name: str = "python3", **env: str) -> Iterator[Kernel]:
    """A kernel of the kernelspec *name* that runs in *folder*."""
    manager = KernelManager(kernel_name=name)
    manager.start_kernel(cwd=str(folder), env=environment(**env))
    client = manager.blocking_client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=PATIENCE)
        yield Kernel(manager, client)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def plain(text: str) -> str:
    """Return *text* without its colours."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)
