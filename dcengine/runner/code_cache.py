"""The code of functions that a worker has seen, so that it travels to each worker once."""

from __future__ import annotations

from collections import OrderedDict

from .units import Unit

LIMIT = 64 * 1024 * 1024  #: bytes of code kept in one worker process


class UnknownCode(LookupError):
    """A unit came without code, and its function is not in the cache: send it again with code."""

    def __init__(self, digest: bytes) -> None:
        super().__init__(digest)
        self.digest = digest

    def __str__(self) -> str:
        return f"the code {self.digest.hex()[:12]} is not on this worker; it has to be sent along"


class CodeCache:
    """Code by its digest; what was not used for longest goes first."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._size = 0
        self._codes: OrderedDict[bytes, bytes] = OrderedDict()

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._codes

    def code_of(self, unit: Unit) -> bytes:
        """Return the code of *unit*'s function, and keep it; raises `UnknownCode` where nobody has it."""
        code = self._codes.get(unit.function)
        if code is not None:
            self._codes.move_to_end(unit.function)
            return code
        if unit.code is None:
            raise UnknownCode(unit.function)
        self._keep(unit.function, unit.code)
        return unit.code

    def _keep(self, digest: bytes, code: bytes) -> None:
        self._codes[digest] = code
        self._size += len(code)
        while self._size > self._limit and len(self._codes) > 1:
            _, oldest = self._codes.popitem(last=False)
            self._size -= len(oldest)
