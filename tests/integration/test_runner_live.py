"""What calls in a child say: C code and programs, bars, displays, and too much of it, as its slot hears it."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dcengine.runner.slot import ChildSlot
from dcengine.runner.tail import left_out_line
from dcengine.runner.units import Ending
from tests.integration.slots import Ear, child_slot, endings, numbered, results, unit, until


@pytest.fixture
def ear() -> Ear:
    return Ear()


@pytest.fixture
async def slot(ear: Ear) -> AsyncIterator[ChildSlot]:
    async with child_slot(ear) as subject:
        yield subject


def hold(path: Path | str) -> None:
    """Wait until somebody makes *path*."""
    while not os.path.exists(path):
        time.sleep(0.005)


def nothing() -> None:
    pass


# ---- C code and programs -------------------------------------------------------------------


async def test_what_c_code_and_programs_write_comes_in_order_with_what_python_prints(slot: ChildSlot, ear: Ear) -> None:
    def speak(name: str) -> None:
        import ctypes
        import subprocess

        c = ctypes.CDLL(None)
        print(name, "python")
        c.puts(b"c code")
        print("python again")
        subprocess.run(["sh", "-c", "echo a program; echo its complaint >&2"])
        print("python at last")
        os.write(1, b"descriptor\n")
        c.printf(b"held back by c\n"[:-1])

    report = await slot.run(unit(speak, ("first",), ("second",)))

    assert endings(report) == [Ending.SUCCEEDED] * 2
    said = "python\nc code\npython again\na program\npython at last\ndescriptor\nheld back by c"
    assert ear.text("stdout") == f"first {said}second {said}"
    assert ear.text("stderr") == "its complaint\n" * 2
    assert {message.item for message in ear.messages if b"held back" in message.data} == {0, 1}
    assert numbered(ear.messages) == list(range(1, report.lines + 1))


async def test_programs_and_c_code_are_heard_while_the_call_still_runs(
    slot: ChildSlot, ear: Ear, tmp_path: Path
) -> None:
    def speak(folder: str) -> None:
        import ctypes
        import subprocess

        ctypes.CDLL(None).puts(b"c code")
        hold(f"{folder}/c")
        subprocess.run(["sh", "-c", f"echo a program; while [ ! -e {folder}/program ]; do sleep 0.01; done"])

    running = asyncio.ensure_future(slot.run(unit(speak, (str(tmp_path),))))

    await until(lambda: ear.text() == "c code\n")
    (tmp_path / "c").touch()
    await until(lambda: ear.text() == "c code\na program\n")
    assert not running.done()
    (tmp_path / "program").touch()
    assert endings(await running) == [Ending.SUCCEEDED]


async def test_c_code_that_keeps_the_interpreter_may_write_more_than_a_pipe_holds(slot: ChildSlot, ear: Ear) -> None:
    def write(size: int) -> int:
        import ctypes

        print("before")
        c = ctypes.PyDLL(None)  # does not let go of the interpreter's lock
        return int(c.write(1, b"x" * size, size))

    report = await slot.run(unit(write, (1_000_000,), (10,)))

    assert results(report) == [1_000_000, 10]
    assert ear.text().replace("before\n", "") == "x" * 1_000_010
    assert numbered(ear.messages) == list(range(1, report.lines + 1))
    assert b"".join(message.data for message in ear.messages if message.item) == b"before\n" + b"x" * 10


async def test_c_code_that_keeps_the_interpreter_and_writes_too_much_is_cut_off(slot: ChildSlot, ear: Ear) -> None:
    def write(size: int) -> int:
        import ctypes

        return int(ctypes.PyDLL(None).write(1, b"x" * size, size))

    report = await slot.run(unit(write, (1_000_000,), output_limit=200_000))

    assert results(report) == [1_000_000]
    assert ear.text().count("is left out") == 1
    assert len(ear.text()) < 400_000


async def test_what_c_code_says_before_it_crashes_is_heard(slot: ChildSlot, ear: Ear) -> None:
    def abort() -> None:
        import ctypes

        print("python")
        c = ctypes.PyDLL(None)  # does not let go of the interpreter's lock: nobody in the child can read it
        c.puts(b"c code")
        c.write(2, b"assertion failed\n", 17)
        c.abort()

    report = await slot.run(unit(abort))

    assert endings(report) == [Ending.CRASHED]
    assert ear.text("stdout") == "python\nc code\n"
    assert ear.text("stderr") == "assertion failed\n"
    assert report.lines == len(ear.messages)


async def test_a_copy_that_user_code_forks_neither_takes_nor_doubles_text(slot: ChildSlot, ear: Ear) -> None:
    def fork() -> None:
        import ctypes
        import multiprocessing

        ctypes.CDLL(None).printf(b"half a line, ")
        process = os.fork()
        if process == 0:
            print("the copy")
            ctypes.CDLL(None).fflush(None)
            os._exit(0)
        os.waitpid(process, 0)
        with multiprocessing.get_context("fork").Pool(1) as pool:
            pool.map(print, ["from the pool"])
        print("the original")

    report = await slot.run(unit(fork))

    assert endings(report) == [Ending.SUCCEEDED]
    assert ear.text() == "half a line, the copy\nfrom the pool\nthe original\n"


async def test_a_program_that_writes_on_after_its_call_disturbs_no_other(slot: ChildSlot, ear: Ear) -> None:
    def start() -> None:
        import subprocess

        subprocess.Popen(["yes"])

    await slot.run(unit(start))
    report = await asyncio.wait_for(slot.run(unit(nothing, *[()] * 50, output_limit=10_000)), 30)

    assert endings(report) == [Ending.SUCCEEDED] * 50


async def test_a_stream_handed_to_a_program_is_the_calls_own(slot: ChildSlot, ear: Ear) -> None:
    def start() -> None:
        import subprocess
        import sys

        subprocess.run(["echo", "to stderr"], stdout=sys.stderr)

    await slot.run(unit(start))

    assert ear.text("stderr") == "to stderr\n"


# ---- too much ------------------------------------------------------------------------------


async def test_of_a_program_that_writes_without_measure_head_and_tail_are_kept(slot: ChildSlot, ear: Ear) -> None:
    def write() -> None:
        import subprocess

        subprocess.run("seq 1 1000000", shell=True)
        print("the end")

    report = await slot.run(unit(write, (), output_limit=10_000))

    lines = ear.text().splitlines()
    assert endings(report) == [Ending.SUCCEEDED]
    assert lines[:3] == ["1", "2", "3"]
    assert lines[-2:] == ["1000000", "the end"]
    assert [line for line in lines if "bytes are left out here" in line]
    assert 9_000 < len(ear.text()) < 11_000


async def test_a_call_that_crashes_after_too_much_text_is_heard_to_its_end(slot: ChildSlot, ear: Ear) -> None:
    def write_and_crash() -> None:
        for number in range(100_000):
            print(number)
        os.abort()

    report = await slot.run(unit(write_and_crash, (), output_limit=10_000))

    text = ear.text()
    assert endings(report) == [Ending.CRASHED]
    assert text.startswith("0\n1\n")
    assert text.endswith("\n99998\n99999\n")
    (line,) = [line for line in text.splitlines() if "left out" in line]
    kept = len(text) - len(left_out_line(0)) + len("0")
    assert f"{len(''.join(f'{n} ' for n in range(100_000))) - kept + len(line.split()[1]):,}" in line


# ---- bars ----------------------------------------------------------------------------------


def said_of(ear: Ear) -> list[tuple[float, float | None, str]]:
    """Return the distinct steps of progress that were heard."""
    steps = [(progress.done, progress.total, progress.text) for progress in ear.progress()]
    return [step for place, step in enumerate(steps) if place == 0 or step != steps[place - 1]]


async def test_a_bar_is_the_progress_of_its_call_and_no_text(slot: ChildSlot, ear: Ear) -> None:
    def work() -> None:
        from tqdm.auto import tqdm

        bar = tqdm(range(3), desc="images")
        for number in bar:
            bar.set_postfix(loss=number)
            tqdm.write(f"written {number}")
            print("printed", number)

    report = await slot.run(unit(work, (), ()))

    assert endings(report) == [Ending.SUCCEEDED] * 2
    assert ear.text() == "written 0\nprinted 0\nwritten 1\nprinted 1\nwritten 2\nprinted 2\n" * 2
    assert said_of(ear)[0] == (0, 3, "images")
    assert said_of(ear)[-1] == (3, 3, "images, loss=2")
    assert [m.item for m in ear.messages if m.kind == "progress"][-1] == 1


async def test_of_nested_bars_the_outermost_counts(slot: ChildSlot, ear: Ear) -> None:
    def work() -> None:
        import sys

        from tqdm import tqdm, trange

        for _ in trange(2, desc="outer", file=sys.stdout, mininterval=0):
            for leave in (True, False):
                for _ in tqdm(range(6), desc="inner", leave=leave, mininterval=0):
                    time.sleep(0.03)

    await slot.run(unit(work))

    assert ear.text() == ""
    assert {text for _, _, text in said_of(ear)} == {"outer"}
    assert said_of(ear)[-1] == (2, 2, "outer")


async def test_bars_without_a_total_or_an_end_say_how_far_they_came(slot: ChildSlot, ear: Ear) -> None:
    def work(*, total: bool, leave: bool) -> None:
        from tqdm import tqdm

        for number in tqdm(range(10) if total else iter(range(10)), leave=leave):
            if number == 6:
                break

    for total in (False, True):
        for leave in (False, True):
            await slot.run(unit(lambda total=total, leave=leave: work(total=total, leave=leave)))
            assert said_of(ear)[-1] == (6, 10 if total else None, "")
    assert ear.text() == ""


async def test_a_bar_that_writes_elsewhere_or_not_at_all_is_left_alone(
    slot: ChildSlot, ear: Ear, tmp_path: Path
) -> None:
    def work(path: str) -> str:
        from tqdm import tqdm

        with open(path, "w+") as file:
            for _ in tqdm(range(3), file=file):
                pass
            for _ in tqdm(range(3), disable=True):
                print("\rmine")
            file.seek(0)
            return file.read()

    report = await slot.run(unit(work, (str(tmp_path / "bar"),)))

    assert "3/3" in results(report)[0]
    assert ear.text() == "\rmine\n" * 3
    assert ear.progress() == []


# ---- displays ------------------------------------------------------------------------------


def shown(ear: Ear) -> list[tuple[str, Any]]:
    """Return what was said, rich messages with what is in them."""
    rich = ("display", "update", "clear")
    return [(m.kind, msgspec.json.decode(m.data) if m.kind in rich else m.data.decode()) for m in ear.messages]


async def test_what_a_function_displays_arrives_as_it_looks(slot: ChildSlot, ear: Ear) -> None:
    def show() -> None:
        from IPython.display import HTML, clear_output, display, update_display

        class Picture:
            def _repr_png_(self) -> bytes:
                return b"\x89PNG"

        class Loud:
            def _ipython_display_(self) -> None:
                print("I show myself")

        print("before")
        display(HTML("<b>bold</b>"), 5, metadata={"wide": True})
        display(Picture(), display_id="place", include=["image/png"])
        update_display({"text/plain": "other"}, display_id="place", raw=True)
        display(Loud())
        clear_output(wait=True)
        print("after")

    report = await slot.run(unit(show))

    assert endings(report) == [Ending.SUCCEEDED]
    html = {"text/plain": "<IPython.core.display.HTML object>", "text/html": "<b>bold</b>"}
    place = {"display_id": "place"}
    assert shown(ear) == [
        ("stdout", "before\n"),
        ("display", {"data": html, "metadata": {"wide": True}, "transient": {}}),
        ("display", {"data": {"text/plain": "5"}, "metadata": {"wide": True}, "transient": {}}),
        ("display", {"data": {"image/png": "iVBORw=="}, "metadata": {}, "transient": place}),
        ("update", {"data": {"text/plain": "other"}, "metadata": {}, "transient": place}),
        ("stdout", "I show myself\n"),
        ("clear", {"wait": True}),
        ("clear", {"wait": True}),
        ("stdout", "after\n"),
    ]


async def test_a_figure_is_displayed_as_a_picture(slot: ChildSlot, ear: Ear) -> None:
    def show() -> None:
        from IPython.display import display
        from matplotlib.figure import Figure

        figure = Figure(figsize=(1, 1))
        figure.add_subplot()
        display(figure)

    await slot.run(unit(show))

    ((kind, content),) = shown(ear)
    assert kind == "display"
    assert content["data"]["image/png"].startswith("iVBOR")


async def test_a_library_that_publishes_a_bundle_is_shown(slot: ChildSlot, ear: Ear) -> None:
    def show() -> None:
        from IPython.display import publish_display_data

        publish_display_data({"text/plain": "plain", "text/html": "<i>rich</i>"})

    await slot.run(unit(show))

    assert [(kind, content["data"]) for kind, content in shown(ear)] == [
        ("display", {"text/plain": "plain", "text/html": "<i>rich</i>"})
    ]


async def test_a_display_too_large_is_an_error_that_says_so(slot: ChildSlot, ear: Ear) -> None:
    def show() -> str:
        from IPython.display import HTML, display

        from dcengine.errors import PayloadTooLarge

        try:
            display(HTML("x" * (33 << 20)))
        except PayloadTooLarge as error:
            return str(error)
        return ""

    assert "what the call shows" in results(await slot.run(unit(show)))[0]
    assert ear.messages == []


async def test_a_function_that_displays_nothing_loads_no_ipython(slot: ChildSlot, ear: Ear) -> None:
    def loaded() -> list[str]:
        import sys

        print("text")
        return [name for name in ("IPython", "tqdm", "ipykernel") if name in sys.modules]

    assert results(await slot.run(unit(loaded))) == [[]]
