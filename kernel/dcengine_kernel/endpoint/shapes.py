"""What this endpoint answers, as types: the description is made of them, and a test holds the answers against them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from msgspec import Struct


class Version(Struct):
    """Which release of jupyter_server answers like this."""

    version: str


class Status(Struct):
    """What runs here, and since when."""

    started: datetime
    last_activity: datetime
    kernels: int
    connections: int


class Me(Struct):
    """Who asks, and what they may do."""

    identity: dict[str, str | None]
    permissions: dict[str, list[str]]


class Kernelspec(Struct):
    """A kernel that can be started, with the addresses of its pictures."""

    name: str
    spec: dict[str, Any]
    resources: dict[str, str]


class Kernelspecs(Struct):
    """All of them."""

    default: str
    kernelspecs: dict[str, Kernelspec]


class Kernel(Struct):
    """A kernel that runs."""

    id: str
    name: str
    last_activity: datetime
    execution_state: str
    connections: int


class ShownKernel(Struct, frozen=True, kw_only=True):
    """A kernel as the dashboard shows it."""

    id: str
    name: str
    language: str
    whose: str  #: nickname or number of the token that it was started with
    state: str  #: in Jupyter's words
    started: float  #: Unix seconds
    last_activity: float
    connections: int  #: websockets that are open
    documents: list[str]  #: paths of those that have it
    running: str  #: how the code begins that runs; told to those who may use the kernel
    running_since: float | None
    may_use: bool  #: whether whoever asks may interrupt it, and shut it down


class JupyterSession(Struct):
    """A path, and the kernel that runs for it."""

    id: str
    path: str
    name: str
    type: str
    kernel: Kernel


class Contents(Struct):
    """A file, a notebook, or a folder with what lies in it."""

    name: str
    path: str
    type: Literal["directory", "notebook", "file"]
    writable: bool
    created: datetime
    last_modified: datetime
    mimetype: str | None
    format: Literal["json", "text", "base64"] | None
    size: int | None
    hash: str | None
    hash_algorithm: str | None
    content: Any  #: of a folder such models again, of a notebook its JSON, of a file text; None if not asked for


class Checkpoint(Struct):
    """A copy of a file to go back to."""

    id: str
    last_modified: datetime


FILE, KERNEL, SESSION = "/api/contents/{path}", "/api/kernels/{id}", "/api/sessions/{id}"
NOTHING: tuple[int, None] = (204, None)
ANSWERS: Mapping[tuple[str, str], tuple[int, Any]] = {
    ("GET", "/api"): (200, Version),
    ("GET", "/api/status"): (200, Status),
    ("GET", "/api/me"): (200, Me),
    ("GET", "/api/terminals"): (200, list[str]),
    ("GET", "/api/kernelspecs"): (200, Kernelspecs),
    ("GET", "/api/kernelspecs/{name}"): (200, Kernelspec),
    ("GET", "/api/kernels"): (200, list[Kernel]),
    ("GET", "/api/running-kernels"): (200, list[ShownKernel]),
    ("POST", "/api/kernels"): (201, Kernel),
    ("GET", KERNEL): (200, Kernel),
    ("DELETE", KERNEL): NOTHING,
    ("POST", f"{KERNEL}/interrupt"): NOTHING,
    ("POST", f"{KERNEL}/restart"): (200, Kernel),
    ("GET", f"{KERNEL}/channels"): (101, None),
    ("GET", "/api/sessions"): (200, list[JupyterSession]),
    ("POST", "/api/sessions"): (201, JupyterSession),
    ("GET", SESSION): (200, JupyterSession),
    ("PATCH", SESSION): (200, JupyterSession),
    ("DELETE", SESSION): NOTHING,
    ("GET", "/api/contents"): (200, Contents),
    ("GET", FILE): (200, Contents),
    ("PUT", FILE): (200, Contents),
    ("POST", "/api/contents"): (201, Contents),
    ("POST", FILE): (201, Contents),
    ("PATCH", FILE): (200, Contents),
    ("DELETE", FILE): NOTHING,
    ("GET", f"{FILE}/checkpoints"): (200, list[Checkpoint]),
    ("POST", f"{FILE}/checkpoints"): (201, Checkpoint),
    ("POST", f"{FILE}/checkpoints/{{id}}"): NOTHING,
    ("DELETE", f"{FILE}/checkpoints/{{id}}"): NOTHING,
    ("POST", f"{FILE}/trust"): (201, None),
}  #: by method and path: the status of success, and what it carries
