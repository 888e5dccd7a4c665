"""A Blender that stays open between pictures: a start costs a second, the next picture of the same scene nothing.

Each child that renders keeps one, for one scene, until another scene comes or nobody has asked for a minute.
"""

from __future__ import annotations

import atexit
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from .errors import BlenderFailed, SceneIncomplete, named
from .pictures import Look, Picture
from .pipes import Conversation

HOST = Path(__file__).with_name("host.py")
IDLE_SECONDS = 60.0  #: after which a Blender that nobody asks is closed
LOG_LINES = 15  #: of Blender's last words that an error shows
COMPLAINT = re.compile(r"^\s*(?:Error|RuntimeError|Exception|Fatal)\b", re.IGNORECASE)

Say = Callable[[str], None]  #: is told each line that Blender prints


class Blender:
    """One Blender, and the scene that it has open."""

    def __init__(self, digest: str, scene: bytes, say: Say) -> None:
        self.digest = digest
        self._folder = tempfile.TemporaryDirectory(prefix="dcengine-render-")
        path = Path(self._folder.name, "scene.blend")
        try:
            path.write_bytes(scene)
        except OSError as error:
            self._folder.cleanup()
            raise BlenderFailed("open the scene", f"{path.parent} on the worker: {error.strerror}", []) from error
        self._log: deque[str] = deque(maxlen=LOG_LINES)
        commands, self._commands = os.pipe()
        answers, theirs = os.pipe()
        self._process = subprocess.Popen(
            [*_program(path), "--", str(commands), str(theirs)],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, pass_fds=(commands, theirs),
        )  # fmt: skip
        os.close(commands)
        os.close(theirs)
        assert self._process.stdout is not None
        self._conversation = Conversation(answers, self._process.stdout.fileno())
        try:
            self.about = self._answer("open the scene", say)
        except BaseException:
            self.close()
            raise

    def render(self, picture: Picture, look: Look, say: Say) -> bytes:
        """Return *picture* as a PNG. Raises `BlenderFailed`, `SceneIncomplete`."""
        _check(self.about)
        path = Path(self._folder.name, "picture.png")
        path.unlink(missing_ok=True)
        self._log.clear()
        what = f"render {picture.name}"
        self._ask({"path": str(path), **look.told(), **picture.told()})
        problem = self._answer(what, say)["problem"]
        if problem is not None or not path.exists():
            raise self._failure(what, problem or "it wrote no file")
        return path.read_bytes()

    def close(self) -> None:
        """End it, and leave nothing of it."""
        self._process.kill()
        self._process.wait()
        os.close(self._commands)
        self._conversation.close()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._folder.cleanup()

    @property
    def is_alive(self) -> bool:
        """Whether it can be asked."""
        return self._process.poll() is None

    def _ask(self, command: dict[str, Any]) -> None:
        with suppress(BrokenPipeError):  # then there is no answer either
            os.write(self._commands, (json.dumps(command) + "\n").encode())

    def _answer(self, what: str, say: Say) -> dict[str, Any]:
        def note(line: str) -> None:
            if line:
                self._log.append(line)
                say(line)

        line = self._conversation.next_line(note)
        if line is None:
            status = self._process.wait()
            ended = f"ended with {status}" if status >= 0 else f"was killed by signal {-status}"
            raise self._failure(what, f"it {ended}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _failure(self, what: str, problem: str) -> BlenderFailed:
        complaints = [line.strip() for line in self._log if COMPLAINT.match(line)]
        if complaints and complaints[-1] not in problem:
            problem = f"{problem}: {complaints[-1]}"
        return BlenderFailed(what, problem, list(self._log))


def _check(about: dict[str, Any]) -> None:
    """Raise `SceneIncomplete` for a scene that no Blender could render as it was meant."""
    if about["missing"]:
        raise SceneIncomplete(
            f"the scene uses files that are not on the worker: {named(about['missing'])}; "
            "have Blender pack them into it: File > External Data > Pack Resources"
        )
    if not about["has_camera"]:
        raise SceneIncomplete("the scene has no camera; add one")


def _program(path: Path) -> Sequence[str]:
    """Return how to open the scene in *path*: with the program Blender, or with the Python module that it can be."""
    if program := shutil.which("blender"):
        safely = ("--background", "--disable-autoexec")  # scenes may come from anybody
        return (program, *safely, str(path), "--python-exit-code", "1", "--python", str(HOST))
    if find_spec("bpy") is not None:
        return (sys.executable, str(HOST), str(path))
    raise BlenderFailed("open the scene", "there is no program 'blender' on the worker's PATH, and no module 'bpy'", [])


_open: Blender | None = None
_use = threading.Lock()
_clock: threading.Timer | None = None


def rendered(picture: Picture, look: Look, digest: str, scene: bytes, say: Say) -> bytes:
    """Return *picture* of *scene* as a PNG, by the Blender that is open if it has that scene."""
    with _opened(digest, scene, say) as blender:
        return blender.render(picture, look, say)


def about(digest: str, scene: bytes, say: Say) -> dict[str, Any]:
    """Return what Blender says of *scene*."""
    with _opened(digest, scene, say) as blender:
        return blender.about


@contextmanager
def _opened(digest: str, scene: bytes, say: Say) -> Iterator[Blender]:
    """Lend the Blender that has *scene* open; after an error, an interrupt too, it is closed."""
    global _open
    with _use:
        _stop_clock()
        try:
            if _open is None or _open.digest != digest or not _open.is_alive:
                _close()
                _open = Blender(digest, scene, say)
            yield _open
        except BaseException:
            _close()
            raise
        finally:
            _start_clock()


def _close() -> None:
    global _open
    if _open is not None:
        blender, _open = _open, None
        blender.close()


def _close_idle() -> None:
    with _use:
        _close()


def _start_clock() -> None:
    global _clock
    _clock = threading.Timer(IDLE_SECONDS, _close_idle)
    _clock.daemon = True
    _clock.start()


def _stop_clock() -> None:
    if _clock is not None:
        _clock.cancel()


atexit.register(_close)
