"""What can go wrong with kernels, as branches of dcengine's own tree of errors."""

from __future__ import annotations

from dcengine.errors import DcengineError, TaskError


class KernelNotStarted(DcengineError):
    """No kernel could be started on a worker."""

    def __init__(self, tags: str, reason: str) -> None:
        super().__init__(tags, reason)
        self.tags, self.reason = tags, reason

    def __str__(self) -> str:
        return f"no kernel was started on a worker with {self.tags}: {self.reason}"


class KernelDied(TaskError):
    """A kernel on a worker ended, and nobody had asked it to."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status  #: of its process, negative for a signal, as in `subprocess`

    def __str__(self) -> str:
        how = f"was ended by signal {-self.status}" if self.status < 0 else f"ended itself with status {self.status}"
        return f"the kernel {how}; the job's output says what it printed. Start it again from the notebook"


class NobodyConnected(TaskError):
    """Whoever asked for a kernel is not there any more, so none is started."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds

    def __str__(self) -> str:
        return (
            f"nobody connected within {self.seconds:g} s, so no kernel was started: whoever asked for it is gone, "
            "cannot reach this machine, or has a kernel elsewhere by now. Start it again from the notebook"
        )
