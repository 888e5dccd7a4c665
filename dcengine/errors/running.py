"""The engine itself."""

from __future__ import annotations

from .base import DcengineError


class EngineError(DcengineError):
    """The engine itself is in trouble."""


class EngineUnreachable(EngineError, ConnectionError):
    """Nobody answers at the engine's address."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(url, reason)
        self.url, self.reason = url, reason

    def __str__(self) -> str:
        return f"no engine answers at {self.url}: {self.reason}; `dcengine doctor` looks for the cause"


class EngineClosed(EngineError):
    """The engine was stopped, or has not been started."""

    def __init__(self, db: str) -> None:
        super().__init__(db)
        self.db = db

    def __str__(self) -> str:
        return f"no engine runs for {self.db} here: it was closed, or not started yet; jobs are kept, start it to go on"


class ExecutorShut(DcengineError, RuntimeError):
    """An executor was given a call after its shutdown."""

    def __init__(self) -> None:
        super().__init__()

    def __str__(self) -> str:
        return "this executor takes no more calls: it was shut down, or its `with` block has ended; make another one"


class EngineBusy(EngineError):
    """The engine's inbox is full."""

    def __init__(self, waiting: int) -> None:
        super().__init__(waiting)
        self.waiting = waiting

    def __str__(self) -> str:
        return f"{self.waiting:,} operations wait to be written; try again in a second"


class PortInUse(EngineError):
    """Another program listens on the port."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(host, port)
        self.host, self.port = host, port

    def __str__(self) -> str:
        return (
            f"port {self.port} of {self.host} is in use by another program; choose one with --port, 0 finds a free one"
        )


class InsecureAddress(EngineError):
    """The engine was asked to listen beyond this machine without TLS."""

    def __init__(self, host: str) -> None:
        super().__init__(host)
        self.host = host

    def __str__(self) -> str:
        return (
            f"listening on {self.host} without TLS would show tokens to the network; stay on 127.0.0.1 behind a "
            "TLS proxy or an SSH tunnel, or say --insecure if you trust every machine on it"
        )


class AccessDenied(EngineError, PermissionError):
    """The token is missing, wrong, or its role is not enough."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.reason}; the URL that `dcengine serve` printed carries a token (?token=...)"
