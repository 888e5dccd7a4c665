"""The last known state of a widget whose process is elsewhere, or gone: logic without I/O."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Path = list[Any]


class Mirror:
    """The state of one model, put together from what was said of it. Buffers stand in it as bytes."""

    def __init__(self) -> None:
        self._state: dict[str, Any] = {}

    def take(self, state: object, paths: object = (), buffers: Sequence[bytes] = ()) -> None:
        """Take over *state*, the *buffers* at these *paths* of it; what makes no sense is left out."""
        if not isinstance(state, dict):
            return
        for path, buffer in zip(paths if isinstance(paths, list) else (), buffers, strict=False):
            _put(state, path, buffer)
        self._state.update(state)

    def given(self) -> tuple[dict[str, Any], list[Path], list[bytes]]:
        """Return the state as it travels: without its buffers, their paths, and they themselves."""
        paths: list[Path] = []
        buffers: list[bytes] = []
        state = {key: _without_buffers(value, [key], paths, buffers) for key, value in self._state.items()}
        for path in paths:
            if len(path) == 1:
                del state[path[0]]
        return state, paths, buffers

    def about(self) -> dict[str, Any]:
        """Return what the model is, as a front end that asks for all of them wants to know."""
        names = ("_model_name", "_model_module", "_model_module_version")
        return {name[1:]: self._state.get(name, "") for name in names}


def _put(state: Any, path: object, buffer: bytes) -> None:
    """Put *buffer* at *path* of *state*, a value that came as JSON."""
    if not isinstance(path, list) or not path:
        return
    try:
        for key in path[:-1]:
            state = state[key]
        state[path[-1]] = buffer
    except (KeyError, IndexError, TypeError):
        return


def _without_buffers(value: Any, path: Path, paths: list[Path], buffers: list[bytes]) -> Any:
    """Return *value* with None for each buffer in it; note where, and which."""
    if isinstance(value, bytes):
        paths.append(path)
        buffers.append(value)
        return None
    if isinstance(value, dict):
        return {key: _without_buffers(one, [*path, key], paths, buffers) for key, one in value.items()}
    if isinstance(value, list):
        return [_without_buffers(one, [*path, place], paths, buffers) for place, one in enumerate(value)]
    return value
