"""The job that hosts a kernel, as it is submitted; light enough for both sides."""

from __future__ import annotations

from typing import Any

MIME = "application/vnd.dcengine.kernel+json"  #: of the message that says where its host is reached


class HostKernel:
    """The function that such a job calls, under a name that people know the kernel by."""

    def __init__(self, title: str) -> None:
        self.__module__, self.__qualname__ = "__main__", title

    def __reduce__(self) -> tuple[type[HostKernel], tuple[str]]:
        return HostKernel, (self.__qualname__,)

    def __call__(self, asker: dict[str, Any]) -> int:
        import msgspec

        from .hosting import host
        from .line import Asker

        return host(msgspec.convert(asker, Asker))
