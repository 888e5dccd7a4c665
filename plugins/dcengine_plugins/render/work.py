"""What the stages of a render do, on the workers."""

from __future__ import annotations

import re
import subprocess
import tempfile
import time
from collections import deque
from collections.abc import Iterable, Sequence
from pathlib import Path

import dcengine

from . import blender
from .errors import FfmpegFailed
from .pictures import Look, Picture, content_of

FRAME_LINE = re.compile(r"^Fra:-?\d+ ")  #: of which Blender prints dozens for each picture
SAMPLE = re.compile(r"\bSample (\d+)/(\d+)")
TELL_SECONDS = 0.2  #: between two times that a worker passes on what Blender says
LOG_LINES = 15  #: of ffmpeg's last words that an error shows
EVEN = "pad=ceil(iw/2)*2:ceil(ih/2)*2"  #: yuv420p has one colour for two pixels
JOINED = (
    "-c:v",
    "libx264",
    "-pix_fmt",
    "yuv420p",
    "-movflags",
    "+faststart",
)  #: what browsers play, from its beginning


def render(picture: Picture, scene: bytes, digest: str, look: Look) -> bytes:
    """Return *picture* of *scene*, the content of a .blend file with this *digest*, as a PNG."""
    said = Said(picture.name)
    try:
        return blender.rendered(picture, look, digest, scene, said.hear)
    finally:
        said.flush()


class Said:
    """What Blender says of a picture, passed on together: a line by itself would cost as much as a tiny frame."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._lines: list[str] = []
        self._sample: re.Match[str] | None = None
        self._told = time.monotonic()

    def hear(self, line: str) -> None:
        """Take in *line*; of the dozens that tell what a frame is at, only how many samples there are."""
        self._sample = SAMPLE.search(line) or self._sample
        if not FRAME_LINE.match(line):
            self._lines.append(line)
        if time.monotonic() - self._told > TELL_SECONDS:
            self.tell()

    def tell(self) -> None:
        """Say how far the picture is, and print what was heard."""
        self._told = time.monotonic()
        if self._sample is not None:
            dcengine.progress(int(self._sample[1]), int(self._sample[2]), self._what)
        self.flush()

    def flush(self) -> None:
        """Print what was heard."""
        if self._lines:
            print(*self._lines, sep="\n", flush=True)
            self._lines = []


def join(frames: Sequence[bytes | dict[str, str]], fps: float) -> bytes:
    """Return *frames*, PNGs of one size in their order, as a movie of *fps* frames each second."""
    with tempfile.TemporaryDirectory(prefix="dcengine-render-") as name:
        folder = Path(name)
        _write(folder, frames)
        movie = folder / "movie.mp4"
        given = ("-framerate", f"{fps:g}", "-i", str(folder / "%06d.png"))
        _run_ffmpeg((*given, "-vf", EVEN, *JOINED, str(movie)), len(frames))
        return movie.read_bytes()


def merge(tiles: Sequence[bytes], columns: int, rows: int) -> bytes:
    """Return the picture whose *tiles* these are, row by row from the upper left."""
    if len(tiles) == 1:
        return tiles[0]
    with tempfile.TemporaryDirectory(prefix="dcengine-render-") as name:
        folder = Path(name)
        _write(folder, tiles)
        given = [word for at in range(len(tiles)) for word in ("-i", str(folder / f"{at:06}.png"))]
        merged = folder / "picture.png"
        _run_ffmpeg((*given, "-filter_complex", stacked(columns, rows), "-frames:v", "1", str(merged)), 1)
        return merged.read_bytes()


def stacked(columns: int, rows: int) -> str:
    """Return ffmpeg's filter that puts pictures beside and below each other; those of a column are as wide."""

    def at(column: int, row: int) -> str:
        across = "+".join(f"w{each}" for each in range(column)) or "0"
        down = "+".join(f"h{each * columns}" for each in range(row)) or "0"
        return f"{across}_{down}"

    places = "|".join(at(column, row) for row in range(rows) for column in range(columns))
    return f"xstack=inputs={columns * rows}:layout={places}"


def frames_of_scene(scene: bytes, digest: str) -> tuple[int, int]:
    """Return the first and the last frame of *scene*, as Blender knows them."""
    about = blender.about(digest, scene, print)
    return about["start"], about["end"]


def _write(folder: Path, pictures: Iterable[bytes | dict[str, str]]) -> None:
    for at, picture in enumerate(pictures):
        (folder / f"{at:06}.png").write_bytes(content_of(picture))


def _run_ffmpeg(words: Sequence[str], total: int) -> None:
    """Run ffmpeg, its frames as progress. Raises `FfmpegFailed`."""
    said: deque[str] = deque(maxlen=LOG_LINES)
    command = ("ffmpeg", "-nostdin", "-hide_banner", "-loglevel", "warning", "-progress", "pipe:1", *words)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace") as it:
        assert it.stdout is not None
        try:
            for line in it.stdout:
                key, equals, value = line.strip().partition("=")
                if key == "frame" and value.strip().isdigit():
                    dcengine.progress(int(value), total, "frames joined")
                elif not equals:
                    said.append(line.strip())
        except BaseException:  # an interrupt: nobody waits for the movie
            it.kill()
            raise
    if it.returncode:
        raise FfmpegFailed(it.returncode, list(said))
