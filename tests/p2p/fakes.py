"""Workers and clients that say what a test has them say, without Blender."""

from __future__ import annotations

import base64
import io
import socket
import zipfile
from contextlib import suppress
from typing import Any

from PIL import Image

from tests.p2p.old_wire import connected, receive, send

PATIENCE = 30.0  #: seconds for one message
SCENES = {colour: b"BLENDER-v304" + b"ENDB" + bytes([number]) * 40 for number, colour in enumerate(("red", "blue"))}


def picture(colour: str, frame: int = 0, side: int = 16) -> bytes:
    """A PNG: each frame of each colour looks different."""
    file = io.BytesIO()
    Image.new("RGB", (side, side), shade(colour, frame)).save(file, "PNG")
    return file.getvalue()


def shade(colour: str, frame: int) -> tuple[int, int, int]:
    """The colour of a frame."""
    return (200, frame, 0) if colour == "red" else (0, frame, 200)


class Fake:
    """One connection."""

    def __init__(self, address: str, role: str, id: str) -> None:
        self.line = connected(address)
        self.line.settimeout(PATIENCE)
        send(self.line, role)
        send(self.line, id)

    def heard(self) -> Any:
        """The next message, None once the engine has hung up."""
        try:
            return receive(self.line)
        except TimeoutError:
            raise
        except OSError:
            return None

    def close(self) -> None:
        """Go, as a process that is killed does."""
        with suppress(OSError):
            self.line.shutdown(socket.SHUT_RDWR)
        self.line.close()


class Worker(Fake):
    """One that renders by painting."""

    def __init__(self, address: str, id: str = "workernr01") -> None:
        super().__init__(address, "worker", id)

    def chunk(self) -> dict[str, Any]:
        """The next chunk that it is given."""
        told = self.heard()
        assert told is not None, "it was hung up on"
        assert told["message_type"] == "task"
        task: dict[str, Any] = told["message"]
        return task

    def send_frame(self, frame: int, task: dict[str, Any], content: bytes | None = None) -> None:
        """Send one frame of a chunk, painted as its scene says, or *content*."""
        scene = base64.b64decode(task["file"])
        colour = next(colour for colour in SCENES if SCENES[colour] == scene)
        content = picture(colour, frame) if content is None else content
        said = {"frame": base64.b64encode(content).decode(), "frame_num": frame, "fps": task["fps"]}
        send(self.line, said)

    def render(self, task: dict[str, Any]) -> list[int]:
        """Send all frames of a chunk; return which these are."""
        frames = frames_of(task)
        for frame in frames:
            self.send_frame(frame, task)
        return frames


class Commander(Fake):
    """One that wants a scene rendered."""

    def __init__(self, address: str, id: str = "commander1") -> None:
        super().__init__(address, "commander", id)

    def ask(self, colour: str, first: int, last: int, **more: Any) -> Commander:
        """Hand in a job."""
        file = base64.b64encode(SCENES[colour]).decode()
        job = {"file_name": f"{colour}.blend", "file": file, "start_frame": first, "end_frame": last, "fps": 12}
        send(self.line, {**job, **more})
        return self

    def until(self, message: str) -> int:
        """Wait until it is told *message*; return how many frames it was told of before."""
        frames = 0
        while (said := self.heard()) != {"message": message}:
            assert said == {"message": "frame_rendered"}, said
            frames += 1
        return frames

    def result(self) -> tuple[dict[str, bytes], bytes]:
        """The frames in its zip, and its movie."""
        said = self.heard()
        assert list(said) == ["file_name", "file", "video_name", "video"]
        assert (said["file_name"], said["video_name"]) == ("results.zip", "results.mp4")
        with zipfile.ZipFile(io.BytesIO(base64.b64decode(said["file"]))) as archive:
            frames = {name: archive.read(name) for name in archive.namelist()}
        return frames, base64.b64decode(said["video"])


def frames_of(task: dict[str, Any]) -> list[int]:
    """The frames of a chunk."""
    return list(range(task["start_frame"], task["end_frame"] + 1))
