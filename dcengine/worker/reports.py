"""What commands say of themselves among what they print: lines of Open Job Description, bars of tqdm. No I/O."""

from __future__ import annotations

import codecs
import re
from collections import deque
from collections.abc import Callable

from ..verbs import Progress

MARK = b"openjd_"
LINE_LIMIT = 16 << 10  #: characters of one line; a longer one is passed on in pieces
BAR_LIMIT = 1000  #: characters of a bar
TEXT_LIMIT = 500  #: characters of what a task says of its progress, as the engine takes them
TAIL_LINES, TAIL_LIMIT = 50, 1500  #: of the end of stderr that is kept for the reason of a failure
SCALES = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15}
UP = "\x1b[A"  #: how a bar below another one leaves its line

_REPORT = re.compile(r"openjd_(progress|status|fail): *(.*)")
_REPORT_LINE = re.compile(rb"^openjd_(?:progress|status|fail):.*\n", re.MULTILINE)
_BAR = re.compile(
    r"(?:(?P<name>.*?): +)?(?:(?P<percent>\d{1,3})%(?:\|[^|]*\|)? *)?(?P<done>\d+(?:\.\d+)?)(?P<done_scale>[kMGTP]?)"
    r"(?:/(?P<total>\d+(?:\.\d+)?)(?P<total_scale>[kMGTP]?)|[^/\[]*)"
    r" \[\d+:\d\d(?::\d\d)?(?:<[^,\]]*)?(?:, [^,\]]*)?(?:, (?P<more>.*))?\]"
)


class Reports:
    """How far one command is, and why it fails, by its own account."""

    def __init__(self) -> None:
        self.failure = ""  #: what it gave as the reason, should it fail
        self._progress = self._told = Progress()

    def news(self) -> Progress | None:
        """Return how far it is, once whenever that has changed."""
        if self._progress == self._told:
            return None
        self._told = self._progress
        return self._told

    def take(self, line: str) -> bool:
        """Take in *line* if it is a report; tell whether it was one."""
        found = _REPORT.fullmatch(line.rstrip())
        if found is None:
            return False
        kind, text = found.groups()
        if kind == "progress":
            return self._take_percent(text)
        if kind == "status":
            self.say(Progress(self._progress.done, self._progress.total, text))
        else:
            self.failure = text
        return True

    def say(self, progress: Progress) -> None:
        """Take in how far the command is."""
        self._progress = Progress(progress.done, progress.total, progress.text[:TEXT_LIMIT])

    def _take_percent(self, text: str) -> bool:
        try:
            percent = float(text.removesuffix("%"))
        except ValueError:
            return False
        if not 0 <= percent <= 100:
            return False
        self.say(Progress(percent, 100.0, self._progress.text))
        return True


class Output:
    """What a command writes to stdout, up to *limit* bytes, without the lines that are reports."""

    def __init__(self, reports: Reports, limit: int) -> None:
        self.size = 0  #: bytes there were, reports left out
        self._reports, self._limit = reports, limit
        self._kept = bytearray()
        self._rest = b""  #: of a line that may become a report
        self._is_line_start = True

    @property
    def is_too_large(self) -> bool:
        """Whether there was more than *limit*; none of it is kept then."""
        return self.size > self._limit

    def feed(self, data: bytes) -> None:
        """Take in the next piece."""
        data, self._rest = self._rest + data, b""
        if not self._is_line_start:  # the end of a line whose beginning was no report's
            end = data.find(b"\n") + 1 or len(data)
            self._keep(data[:end])
            data = data[end:]
        if not data:
            return
        begin = data.rfind(b"\n") + 1
        if _may_be_report(data[begin:]):
            data, self._rest = data[:begin], data[begin:]
        self._sift(data)

    def finish(self) -> None:
        """Take in the end: there is no more."""
        if self._rest and not self._reports.take(self._rest.decode(errors="replace")):
            self._keep(self._rest)
        self._rest = b""

    def value(self) -> bytes:
        """Return what there was, without the newline at its end."""
        return bytes(self._kept).removesuffix(b"\n").removesuffix(b"\r")

    def _sift(self, data: bytes) -> None:
        """Keep *data*, which begins with a line, but for its reports."""
        start = 0
        for found in _REPORT_LINE.finditer(data) if MARK in data else ():
            if self._reports.take(found[0].decode(errors="replace")):
                self._keep(data[start : found.start()])
                start = found.end()
                self._is_line_start = True
        self._keep(data[start:])

    def _keep(self, data: bytes) -> None:
        if not data:
            return
        self.size += len(data)
        self._is_line_start = data.endswith(b"\n")
        if self.is_too_large:
            self._kept.clear()
        else:
            self._kept += data


def _may_be_report(beginning: bytes) -> bool:
    """Tell whether a line with this *beginning* may be a report."""
    return len(beginning) < LINE_LIMIT and (beginning.startswith(MARK) or MARK.startswith(beginning))


class Messages:
    """What a command writes to stderr, line by line as a terminal would leave it; *on_line* gets what is no report."""

    def __init__(self, reports: Reports, on_line: Callable[[str], None]) -> None:
        self._reports, self._on_line = reports, on_line
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._begun = ""  #: of a line that has no end yet
        self._shown = ""  #: what stands in the line that the next text writes over
        self._was_report = False  #: whether that was a bar or a report
        self._outer: Progress | None = None  #: of the bar above all others
        self._last: deque[str] = deque(maxlen=TAIL_LINES)

    def feed(self, data: bytes) -> None:
        """Take in the next piece."""
        self._take(self._decoder.decode(data))

    def finish(self) -> None:
        """Take in the end: there is no more."""
        self._take(self._decoder.decode(b"", final=True))
        self._end_segment()
        if self._shown:
            self._end_line()

    def end(self) -> str:
        """Return the end of it, for whoever asks why the command failed."""
        return "\n".join(self._last)[-TAIL_LIMIT:].strip()

    def _take(self, text: str) -> None:
        for piece in re.split(r"([\r\n])", text):
            if piece == "\n":
                self._end_segment()
                self._end_line()
            elif piece == "\r":
                self._end_segment()
            else:
                self._begun += piece
                if len(self._begun) > LINE_LIMIT:
                    self._end_segment()
                    self._end_line()
        # A bar is written without an end until its next step, which may be an hour away.
        self._take_bar(self._begun, is_whole=False)

    def _end_segment(self) -> None:
        """Let what has begun stand in its line, until something is written over it."""
        segment, self._begun = self._begun, ""
        if self._take_bar(segment, is_whole=True) or self._reports.take(segment):
            self._shown, self._was_report = "", True
        elif segment.strip():
            self._shown, self._was_report = segment, False

    def _end_line(self) -> None:
        line, self._shown = self._shown.replace(UP, "").rstrip(), ""
        was_report, self._was_report = self._was_report, False
        if was_report:
            return
        if line:
            self._last.append(line)
        self._on_line(line)

    def _take_bar(self, segment: str, *, is_whole: bool) -> bool:
        """Take in *segment* if it is a bar, or what is left of one; tell whether it was."""
        text = segment.replace(UP, "").strip()
        if not text:
            return UP in segment
        progress = bar_progress(text)
        if progress is None:
            return False
        if UP not in segment:
            self._reports.say(progress)
            self._outer = progress if is_whole else self._outer
        elif self._outer is not None:  # the bar is one below it, and may have been taken for it while it had no end
            self._reports.say(self._outer)
        return True


def bar_progress(text: str) -> Progress | None:
    """Return how far the bar of tqdm is that shows itself as *text*; None if it is none."""
    if len(text) > BAR_LIMIT or not text.rstrip().endswith("]"):
        return None
    found = _BAR.fullmatch(text.strip())
    if found is None:
        return None
    total = None if found["total"] is None else float(found["total"]) * SCALES[found["total_scale"]]
    said = (found["name"] or "", found["more"] or "")
    done = float(found["done"]) * SCALES[found["done_scale"]]
    return Progress(done, total, ", ".join(part for part in said if part))
