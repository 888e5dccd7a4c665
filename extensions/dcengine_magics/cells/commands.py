"""``%distribute``: the default for cells, and cells that were sent before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dcengine
from dcengine import tags

from . import attaching, background, sessions
from .defaults import Defaults
from .errors import InvalidCell
from .options import DefaultOptions
from .sending import without_our_frames

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

USAGE = "usage: %distribute [on [EXPR] [OPTIONS] | off | wait [ID] | attach [ID] | retry ID | end NAME]"

_options = DefaultOptions()


def command(shell: InteractiveShell, defaults: Defaults, line: str) -> Any:
    """Do what *line* says; return what the notebook is to show."""
    verb, _, rest = line.strip().partition(" ")
    with without_our_frames(shell):
        if verb == "attach":
            return attaching.attach(shell, rest.strip())
        if verb == "retry":
            return attaching.retry(shell, rest.strip())
        if verb == "end":
            print(_ended(shell, rest.strip()))
            return None
        if verb == "wait":
            return background.wait(rest.strip())
        _set(defaults, verb, rest.strip())
    print(defaults)
    return None


def _ended(shell: InteractiveShell, session: str) -> str:
    """End the session of that name; return what to say."""
    if not session:
        raise InvalidCell("%distribute end takes the name of a session; dcengine.sessions() lists them", USAGE)
    sessions.forget(shell, session)
    return f"session {session} has ended" if dcengine.end_session(session) else f"there is no session {session}"


def _set(defaults: Defaults, verb: str, rest: str) -> None:
    if verb == "on":
        options = _options.read(rest)
        tags.parse(tags.with_devices(options.tags, options.devices))
        defaults.options, defaults.line = options, rest
    elif verb == "off" and not rest:
        defaults.options = None
    elif verb:
        raise InvalidCell(f"%distribute: {f'{verb} {rest}'.strip()!r} means nothing", USAGE)
