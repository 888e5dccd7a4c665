"""What cells have printed, which IPython keeps for ``%notebook``: the newest of it, in few pieces."""

from __future__ import annotations

from typing import Any

LIMIT = 16 << 20  #: characters, of all cells


class Printed:
    """Keeps small what *outputs*, IPython's own by the number of the cell, hold of what was printed."""

    def __init__(self, outputs: dict[int, list[Any]]) -> None:
        self._outputs = outputs
        self._kept: dict[int, int] = {}  #: characters of each cell, the oldest first
        self._all = 0  #: of them

    def tidy(self, _: object = None) -> None:
        """Join what the last cell has printed, a piece for each write, and forget that of the oldest cells."""
        if not self._outputs:
            return
        last = next(reversed(self._outputs))
        self._all -= self._kept.pop(last, 0)
        self._kept[last] = sum(map(_joined, self._outputs[last]))
        self._all += self._kept[last]
        while self._all > LIMIT and len(self._kept) > 1:
            oldest = next(iter(self._kept))
            self._all -= self._kept.pop(oldest)
            self._outputs.pop(oldest, None)


def _joined(output: Any) -> int:
    """Join the pieces of *output* if it is text that was printed; return its length."""
    pieces = output.bundle.get("stream")
    if not isinstance(pieces, list):
        return 0
    pieces[:] = ["".join(pieces)]
    return len(pieces[0])


def keep_little(ip: Any) -> None:
    """Have *ip* keep little of what its cells print; an IPython before 9 keeps nothing of it."""
    outputs = getattr(ip.history_manager, "outputs", None)
    if isinstance(outputs, dict):
        ip.events.register("post_run_cell", Printed(outputs).tidy)
