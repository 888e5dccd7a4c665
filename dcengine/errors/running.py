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


class IdlenessUnknown(DcengineError, ValueError):
    """Nothing on a machine tells whether its owner is using it."""

    def __init__(self, platform: str) -> None:
        super().__init__(platform)
        self.platform = platform

    def __str__(self) -> str:
        looked_for = "ioreg" if self.platform == "darwin" else "logind, xprintidle (for X11)"
        return (
            f"--idle-only needs to know whether somebody uses this machine, and nothing here tells: there is no "
            f"{looked_for} and no terminal in use; install one of them, or start without --idle-only"
        )


class EngineBusy(EngineError):
    """The engine's inbox is full."""

    def __init__(self, waiting: int) -> None:
        super().__init__(waiting)
        self.waiting = waiting

    def __str__(self) -> str:
        return f"{self.waiting:,} operations wait to be written; try again in a second"


class PortInUse(EngineError):
    """Another program listens on the port."""

    def __init__(self, host: str, port: int, option: str = "--port") -> None:
        super().__init__(host, port, option)
        self.host, self.port, self.option = host, port, option

    def __str__(self) -> str:
        place = f"port {self.port} of {self.host}"
        return f"{place} is in use by another program; choose one with {self.option}, 0 finds a free one"


class InsecureAddress(EngineError):
    """The engine was asked to listen beyond this machine without TLS, or for a *protocol* that knows no tokens."""

    def __init__(self, host: str, protocol: str = "") -> None:
        super().__init__(host, protocol)
        self.host, self.protocol = host, protocol

    def __str__(self) -> str:
        if self.protocol:
            return (
                f"{self.protocol} asks for no token: listening on {self.host}, it would let in whoever reaches that; "
                "stay on 127.0.0.1 behind an SSH tunnel or a VPN, or say --insecure if you trust every machine on it"
            )
        return (
            f"listening on {self.host} without TLS would show tokens to the network; stay on 127.0.0.1 behind a "
            "TLS proxy or an SSH tunnel, or say --insecure if you trust every machine on it"
        )


class AccessDenied(EngineError, PermissionError):
    """The token is missing, wrong, or may not do this."""

    def __init__(self, reason: str, needs_token: bool = False) -> None:
        super().__init__(reason, needs_token)
        self.reason = reason
        self.needs_token = needs_token  #: there was none, or one that is wrong, expired or revoked

    def __str__(self) -> str:
        if not self.needs_token:
            return self.reason
        way_out = "the URL that `dcengine serve` printed carries one (?token=...), `dcengine token create` makes others"
        return f"{self.reason}; {way_out}"


class ContributorBanned(EngineError, PermissionError):
    """Nothing is taken from a contributor, and nothing given to it."""

    def __init__(self, nickname: str) -> None:
        super().__init__(nickname)
        self.nickname = nickname

    def __str__(self) -> str:
        return (
            f"contributor {self.nickname!a} is banned: it is given no tasks, and nothing is taken from it; whoever "
            "runs the project can take that back with `dcengine contributor unban`"
        )


class LeaseLimitReached(EngineError):
    """A contributor has as many tasks in its hands as it may."""

    def __init__(self, nickname: str, held: int, limit: int, is_volunteer: bool) -> None:
        super().__init__(nickname, held, limit, is_volunteer)
        self.nickname, self.held, self.limit, self.is_volunteer = nickname, held, limit, is_volunteer

    def __str__(self) -> str:
        more = "; volunteers may hold one more for each task of theirs that was accepted in the last 24 hours"
        return (
            f"{self.nickname!a} holds {self.held:,} task(s) and may hold {self.limit:,} at once: complete or release "
            f"some, then ask again{more if self.is_volunteer else ''}"
        )


class TooManyRequests(EngineError):
    """A volunteer's address asks more often than it may."""

    def __init__(self, rate: float, seconds: float) -> None:
        super().__init__(rate, seconds)
        self.rate, self.seconds = rate, seconds

    def __str__(self) -> str:
        return (
            f"without a token an address may send {self.rate:g} requests a second: wait {self.seconds:.1f} s, ask for "
            "several tasks at once, or ask whoever runs the project for a token"
        )
