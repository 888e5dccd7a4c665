"""What commands say of themselves among what they print."""

from __future__ import annotations

import random
import subprocess
import sys

import pytest

from dcengine.verbs import Progress
from dcengine.worker.reports import LINE_LIMIT, Messages, Output, Reports, bar_progress

BARS = """
import sys
from tqdm import tqdm

for outer in tqdm(range(4), desc="outer", mininterval=0, file=sys.stderr):
    for inner in tqdm(range(2), desc="inner", leave=False, mininterval=0, file=sys.stderr):
        pass
tqdm.write("between the bars", file=sys.stderr)
for each in tqdm(iter(range(3)), desc="no end known", mininterval=0):
    pass
for each in tqdm(range(20_000), unit_scale=True, mininterval=0, miniters=10_000):
    pass
"""


class Heard:
    """The messages of a command, and what it was heard to say."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.progress: list[Progress] = []
        self.reports = Reports()
        self.messages = Messages(self.reports, self.lines.append)

    def hear(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.messages.feed(piece)
            if (news := self.reports.news()) is not None:
                self.progress.append(news)


@pytest.fixture
def heard() -> Heard:
    return Heard()


def in_pieces(text: bytes, seed: int) -> list[bytes]:
    """Cut *text* somewhere."""
    numbers = random.Random(seed)
    places = sorted(numbers.randrange(len(text) + 1) for _ in range(8))
    return [text[start:end] for start, end in zip([0, *places], [*places, len(text)], strict=True)]


def output_of(*pieces: bytes, limit: int = 1 << 20) -> tuple[bytes, Output, Reports]:
    reports = Reports()
    output = Output(reports, limit)
    for piece in pieces:
        output.feed(piece)
    output.finish()
    return output.value(), output, reports


# ---- stdout --------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_reports_are_taken_out_of_the_output_wherever_it_is_cut(seed: int) -> None:
    text = b"one\nopenjd_progress: 12.5\ntwo\r\nopenjd_status: half way\n\nthree openjd_progress: 3\nopenjd_fail: x\n"

    value, _, reports = output_of(*in_pieces(text, seed))

    assert value == b"one\ntwo\r\n\nthree openjd_progress: 3"
    assert reports.news() == Progress(12.5, 100, "half way")
    assert reports.failure == "x"


def test_the_output_loses_one_newline_at_its_end_and_nothing_else() -> None:
    assert output_of(b"  a \n\n")[0] == b"  a \n"
    assert output_of(b"a\r\n")[0] == b"a"
    assert output_of(b"\0\xff\xfe")[0] == b"\0\xff\xfe"
    assert output_of()[0] == b""


@pytest.mark.parametrize(
    "line", [b"openjd_progress: 101\n", b"openjd_progress: soon\n", b"openjd_env: A=1\n", b"openjd_"]
)
def test_a_line_that_is_no_report_is_output(line: bytes) -> None:
    value, _, reports = output_of(line)

    assert value == line.rstrip(b"\n")
    assert reports.news() is None


def test_a_report_at_the_end_needs_no_newline() -> None:
    value, _, reports = output_of(b"done\nopenjd_progress: 100")

    assert (value, reports.news()) == (b"done", Progress(100, 100))


def test_output_above_the_limit_is_counted_and_not_kept() -> None:
    value, output, _ = output_of(*[b"x" * 1000] * 5, limit=4999)

    assert (value, output.size, output.is_too_large) == (b"", 5000, True)


def test_a_line_without_end_that_begins_as_a_report_is_not_held_back_for_ever() -> None:
    value, _, _ = output_of(b"openjd_status: ", *[b"x" * 1000] * 20)

    assert len(value) == 20_015


# ---- stderr --------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_lines_are_as_a_terminal_would_leave_them(heard: Heard, seed: int) -> None:
    text = "starting\nframe 1\rframe 2\rframe 3\nwindows\r\n\nöpenjd\nopenjd_status: busy\nlast".encode()

    heard.hear(*in_pieces(text, seed))
    heard.messages.finish()

    assert heard.lines == ["starting", "frame 3", "windows", "", "öpenjd", "last"]
    assert heard.progress == [Progress(0, None, "busy")]
    assert heard.messages.end() == "starting\nframe 3\nwindows\n\nöpenjd\nlast".replace("\n\n", "\n")


@pytest.mark.parametrize(
    ("text", "progress"),
    [
        ("outer:  42%|####      | 42/100 [00:01<00:02, 20.00it/s]", Progress(42, 100, "outer")),
        ("  0%|          | 0/3 [00:00<?, ?it/s]", Progress(0, 3)),
        ("a: b:  20%|##        | 1/5 [00:00<00:00, 209715.20it/s, x=1]", Progress(1, 5, "a: b, x=1")),
        (" 30% 3/10 [00:00<00:00, 267721.53it/s]", Progress(3, 10)),
        (" 33%|###   | 10.0k/30.0k [00:00<00:00, 9.56Mit/s]", Progress(10_000, 30_000)),
        ("no total: 3it [00:00, 13386.08it/s]", Progress(3, None, "no total")),
        ("7files [1:02:03,  1.10s/files]", Progress(7, None)),
        ("42% of it is done", None),
        ("2 warnings [see above]", None),
        ("x" * 100_000 + "]", None),
        ("%|" * 400 + "]", None),
    ],
)
def test_a_bar_is_read(text: str, progress: Progress | None) -> None:
    assert bar_progress(text) == progress


def test_real_bars_become_progress_and_leave_no_lines(heard: Heard) -> None:
    printed = subprocess.run([sys.executable, "-c", BARS], stderr=subprocess.PIPE, check=True).stderr

    for byte in printed:
        heard.hear(bytes([byte]))
    heard.messages.finish()

    assert heard.lines == ["between the bars"]
    outer = [each.done for each in heard.progress if each.text == "outer"]
    assert (outer[0], outer[-1]) == (0, 4)
    assert [each for each in heard.progress if each.text == "no end known"][-1] == Progress(3, None, "no end known")
    assert heard.progress[-1] == Progress(20_000, 20_000)


def test_the_bar_above_counts_and_not_the_one_below_it(heard: Heard) -> None:
    heard.hear(b"\router:  50%|#####     | 1/2 [00:00<00:00,  9.00it/s]\n")
    heard.hear(b"\rinner:  10%|#         | 1/10 [00:00<00:00,  9.00it/s]\x1b[A")
    heard.hear(b"\r                                                 \x1b[A")

    assert heard.progress[-1] == Progress(1, 2, "outer")


def test_a_bar_is_seen_before_it_is_drawn_again(heard: Heard) -> None:
    heard.hear(b"\r 50%|#####     | 1/2 [00:00<00:00,  9.00it/s]")

    assert heard.progress == [Progress(1, 2)]


def test_a_line_without_end_is_passed_on_in_pieces(heard: Heard) -> None:
    heard.hear(*[b"x" * 1000] * 100)

    assert len(heard.lines) >= 5
    assert max(map(len, heard.lines)) <= LINE_LIMIT + 1000
    assert len(heard.messages.end()) < 2000


def test_what_is_not_utf8_is_shown_with_replacements(heard: Heard) -> None:
    heard.hear(b"caf\xe9\n")

    assert heard.lines == ["caf\ufffd"]
