"""What a render is asked for, before any Blender: frames, scenes, pictures, sizes."""

from __future__ import annotations

import gzip
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcengine.errors import InvalidOption
from dcengine.workloads import File, load
from dcengine_plugins.render import scenes, work
from dcengine_plugins.render.errors import BlenderFailed, InvalidFrames, InvalidScene, OutputNotWritable
from dcengine_plugins.render.frames import frames_of, named
from dcengine_plugins.render.parameters import RenderParameters
from dcengine_plugins.render.pictures import Picture, Tile
from dcengine_plugins.render.saving import check, is_folder, wants_movie


@pytest.mark.parametrize(
    ("text", "frames"),
    [
        ("7", [7]),
        ("1-4", [1, 2, 3, 4]),
        ("1-1200:400", [1, 401, 801]),
        ("3, 5-7 ,6", [3, 5, 6, 7]),
        ("-2-1", [-2, -1, 0, 1]),
        ("-5--3", [-5, -4, -3]),
    ],
)
def test_frames_are_read_as_people_write_them(text: str, frames: list[int]) -> None:
    assert frames_of(text) == frames


@pytest.mark.parametrize("text", ["", "x", "1-", "5-1", "1-5:0", "1;5", "1-99999999", "1..5", "1-5:", ","])
def test_frames_that_make_no_sense_are_refused_with_what_would(text: str) -> None:
    with pytest.raises(InvalidFrames, match="1-120"):
        frames_of(text)


def test_more_frames_than_blender_counts_are_refused() -> None:
    with pytest.raises(InvalidFrames, match="1,000,000 at most"):
        frames_of("0-1000000")


@given(st.sets(st.integers(-1000, 1000), min_size=1))
def test_named_frames_are_read_as_the_same(frames: set[int]) -> None:
    assert frames_of(named(sorted(frames))) == sorted(frames)


def blend(*blocks: tuple[bytes, bytes], pointer: bytes = b"-", order: bytes = b"v") -> bytes:
    """Return a file of *blocks*, each a code and a content."""
    small, sign = pointer == b"_", "<" if order == b"v" else ">"
    head = struct.Struct(f"{sign}4sI{'4x' if small else '8x'}8x")
    return b"BLENDER" + pointer + order + b"304" + b"".join(head.pack(code, len(data)) + data for code, data in blocks)


def scene_block(start: int, end: int, sign: str = "<") -> tuple[bytes, bytes]:
    return b"REND", struct.pack(f"{sign}ii64s", start, end, b"Scene")


END = (b"ENDB", b"")


@pytest.mark.parametrize(("pointer", "order"), [(b"-", b"v"), (b"_", b"v"), (b"-", b"V"), (b"_", b"V")])
def test_the_frames_of_a_scene_are_read_without_blender_on_any_machine(pointer: bytes, order: bytes) -> None:
    block = scene_block(5, 250, "<" if order == b"v" else ">")
    content = blend(
        (b"TEST", bytes(100)), block, scene_block(7, 8), (b"GLOB", bytes(9)), END, pointer=pointer, order=order
    )

    assert scenes.frames_of(content, "x.blend") == (5, 250)
    assert scenes.frames_of(gzip.compress(content), "x.blend") == (5, 250)


def test_of_a_scene_in_zstd_or_with_a_newer_header_only_blender_can_tell() -> None:
    assert scenes.frames_of(b"\x28\xb5\x2f\xfd....", "x.blend") is None
    assert scenes.frames_of(b"BLENDER17-01v0500", "x.blend") is None
    assert scenes.frames_of(blend((b"DATA", b"x"), END), "x.blend") is None


@pytest.mark.parametrize("content", [b"", b"GIF89a", b"BLEND", b"PK\x03\x04", b"blender"])
def test_a_file_that_is_no_scene_is_told_so(content: bytes) -> None:
    with pytest.raises(InvalidScene, match=r"holiday\.blend is no \.blend file"):
        scenes.frames_of(content, "holiday.blend")


def test_a_scene_that_breaks_off_anywhere_is_told_so() -> None:
    content = blend((b"TEST", bytes(50)), scene_block(1, 2), (b"DATA", bytes(50)), END)

    for length in range(12, len(content) - 20):
        with pytest.raises(InvalidScene, match="breaks off"):
            scenes.frames_of(content[:length], "x.blend")
    packed = gzip.compress(content)
    with pytest.raises(InvalidScene, match="breaks off"):
        scenes.frames_of(packed[: len(packed) // 2], "x.blend")


@given(st.binary(max_size=300))
def test_no_garbage_behind_the_header_makes_it_fail_otherwise(garbage: bytes) -> None:
    for pointer in (b"-", b"_"):
        content = b"BLENDER" + pointer + b"v304" + garbage
        try:
            scenes.frames_of(content, "x.blend")
        except InvalidScene:
            pass


SIZELESS = ("big", "0%", "2x2")


def asked(**more: Any) -> RenderParameters:
    checked: RenderParameters = load("render").checked({"scene": File("x.blend", b""), **more})
    return checked


def test_a_look_is_read_and_what_is_none_is_refused_with_what_would_be() -> None:
    look = asked(engine="cycles", samples=8, resolution="1920x1080").look
    assert (look.engine, look.samples, look.size, look.percent) == ("CYCLES", 8, (1920, 1080), None)
    assert asked(resolution="50%").look.percent == 50
    for option, wrong in (
        ("engine", "povray"),
        ("on", "mars"),
        ("samples", 0),
        *(("resolution", each) for each in SIZELESS),
    ):
        with pytest.raises(InvalidOption, match="expected"):
            asked(**{option: wrong}).look  # noqa: B018


def test_tiles_are_columns_and_rows_and_not_too_many() -> None:
    assert asked(tiles="4x3").grid == (4, 3)
    assert asked().grid is None
    for wrong in ("4", "0x3", "x", "100x100", "-1x2"):
        with pytest.raises(InvalidOption, match="COLUMNSxROWS"):
            asked(tiles=wrong).grid  # noqa: B018


def test_the_tiles_of_a_picture_cover_it_once_from_the_upper_left() -> None:
    borders = [Tile(column, row, 2, 2).border for row in range(2) for column in range(2)]

    assert borders == [(0, 0.5, 0.5, 1), (0.5, 1, 0.5, 1), (0, 0.5, 0, 0.5), (0.5, 1, 0, 0.5)]


def test_pictures_are_named_for_people() -> None:
    assert Picture(7).name == "frame 0007"
    assert Picture(7, Tile(0, 2, 4, 3)).name == "frame 0007, tile 1,3"


def test_tiles_are_put_beside_and_below_each_other() -> None:
    assert work.stacked(2, 2) == "xstack=inputs=4:layout=0_0|w0_0|0_h0|w0_h0"


def test_where_it_goes_says_what_is_wanted(tmp_path: Any) -> None:
    assert wants_movie(asked())
    assert not wants_movie(asked(movie=False))
    assert wants_movie(asked(out=("a.zip", "b.mp4"), movie=False))
    assert not wants_movie(asked(out=("frames.zip",)))
    assert is_folder(tmp_path / "frames")
    assert not is_folder(tmp_path / "x.mp4")


def test_a_place_that_cannot_be_written_is_told_before_anything_is_rendered(tmp_path: Any) -> None:
    (tmp_path / "file").write_text("")

    check([str(tmp_path / "new" / "x.mp4"), str(tmp_path / "frames")])
    for wrong in (tmp_path / "file" / "x.mp4", tmp_path / "file" / "frames"):
        with pytest.raises(OutputNotWritable, match="name another with --out"):
            check([str(wrong)])
    assert not list(tmp_path.glob("**/.*"))


def test_a_failure_shows_blenders_own_words() -> None:
    assert str(BlenderFailed("render frame 0007", "Error: out of memory", ["Fra:7", "Error: out of memory"])) == (
        "Blender did not render frame 0007: Error: out of memory\n  Fra:7\n  Error: out of memory"
    )
