"""What a front end is told that asks the kernel for all its widgets, as it does after a page was loaded again."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from .comm_words import CONTROL
from .mirror import Mirror


def answer_for_relayed(manager: Any) -> None:
    """Let the kernel whose comms *manager* has name the widgets of remote cells too, beside its own."""
    with suppress(ImportError):
        import ipywidgets  # noqa: F401  # which answers for the kernel's own, and says so when it is imported
    before = manager.targets.get(CONTROL)
    if not isinstance(before, ControlTarget):
        manager.register_target(CONTROL, ControlTarget(manager, before))


class ControlTarget:
    """Takes in the comm by which a front end asks for all widgets; *before* is who has done so until now."""

    def __init__(self, manager: Any, before: Callable[[Any, Any], None] | None) -> None:
        self._manager, self._before = manager, before

    def __call__(self, comm: Any, msg: Any) -> None:
        asking = Control(comm, self._manager)
        if self._before is not None:
            self._before(asking, msg)
        else:
            asking.on_msg(asking.answer)


class Control:
    """A front end's control comm, through which states go out together with those of relayed widgets."""

    def __init__(self, comm: Any, manager: Any) -> None:
        self._comm, self._manager = comm, manager

    def __getattr__(self, name: str) -> Any:
        return getattr(self._comm, name)

    def send(self, data: Any = None, metadata: Any = None, buffers: Any = None) -> None:
        """Send *data*; called by ipywidgets for its own widgets."""
        if data and data.get("method") == "update_states":
            data, buffers = self._with_relayed(data, list(buffers or ()))
        self._comm.send(data, metadata, buffers)

    def answer(self, msg: Any) -> None:
        """Answer a front end where no ipywidgets does."""
        if msg["content"]["data"].get("method") == "request_states":
            self.send({"method": "update_states", "states": {}, "buffer_paths": []})

    def _with_relayed(self, data: dict[str, Any], buffers: list[Any]) -> tuple[dict[str, Any], list[Any]]:
        states, paths = dict(data["states"]), list(data["buffer_paths"])
        for id, one in list(self._manager.comms.items()):
            mirror = getattr(one, "mirror", None)
            if isinstance(mirror, Mirror):
                state, places, parts = mirror.given()
                states[id] = {**mirror.about(), "state": state}
                paths += [[id, "state", *place] for place in places]
                buffers += parts
        return {**data, "states": states, "buffer_paths": paths}, buffers
