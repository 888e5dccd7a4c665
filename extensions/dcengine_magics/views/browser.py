"""Jobs that somebody looks through: which are meant, which page of them, and which one is looked at closely."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial

from dcengine.errors import InvalidOption, NotFound
from dcengine.lists import JobList, found_jobs
from dcengine.verbs import BatchStatus, JobFilter

from . import browser_forms
from .past import PastSubject
from .sights import Act, Seldom, Sight, ask

PAGE, LARGEST = 20, 100  #: jobs on one page, unless more were asked for
REST_SECONDS = 300.0  #: that nobody does anything, after which a page stays as it is
PAGE_SECONDS = 1.0  #: between two looks at one page, at least


class Browser:
    """Pages of jobs. At rest until somebody does something: then it asks, and for a while stays up to date."""

    cancel: Callable[[], object] | None = None

    def __init__(self, found: JobList, clock: Callable[[], float] = time.monotonic) -> None:
        assert found.link is not None
        self.link = found.link
        self.wanted = found.wanted
        self.found = found  #: the page as it was told last
        self.size = min(LARGEST, max(PAGE, len(found)))
        self.problem = ""  #: why nothing is found
        self._clock = clock
        self._touched: float | None = None
        self._begins: list[int | None] = [found.before]  #: of the pages gone through; the last is the one shown
        self._past: PastSubject | None = None
        self._page = Seldom[JobList](found, PAGE_SECONDS, clock)
        self._lock = threading.Lock()  # people press buttons while the views' thread looks

    # ---- what people do --------------------------------------------------------------------

    def search(self, wanted: JobFilter) -> None:
        """Look for the jobs *wanted*, from the newest on."""
        self._go(wanted, [None])

    def older(self) -> None:
        """Go on to the next page, if there is one."""
        if self.has_older:
            self._go(self.wanted, [*self._begins, self.found.older])

    def newer(self) -> None:
        """Go back a page; from the first, to what is the newest by now."""
        self._go(self.wanted, self._begins[:-1] or [None])

    def choose(self, job: int | None) -> None:
        """Look closely at *job*, at none with None."""
        with self._lock:
            self._touched = self._clock()
            self._past = None if job is None else PastSubject(self.link, job)

    def touch(self) -> None:
        """Take note that somebody is there."""
        self._touched = self._clock()

    def _go(self, wanted: JobFilter, begins: list[int | None]) -> None:
        with self._lock:
            self._touched = self._clock()
            self.wanted, self._begins, self._past = wanted, begins, None
            self._page = Seldom(self.found, PAGE_SECONDS, self._clock)

    # ---- what there is to see --------------------------------------------------------------

    @property
    def has_older(self) -> bool:
        return self.found.older is not None

    @property
    def has_newer(self) -> bool:
        return self._begins != [None]

    @property
    def chosen(self) -> int | None:
        """The job that is looked at closely."""
        past = self._past
        return None if past is None else past.id

    def look(self, patience: float) -> Sight:
        if self._touched is None:
            return self._sight(self.found, "", "", (), is_over=True)
        with self._lock:
            wanted, before, past, page = self.wanted, self._begins[-1], self._past, self._page
        now = self._clock()
        is_over = now - self._touched > REST_SECONDS
        second = int(now / PAGE_SECONDS)  # what is open changes by itself
        found = page.get((wanted, before, second), partial(self._read, wanted, before, patience))
        with self._lock:
            if page is self._page:  # else somebody has gone on meanwhile
                self.found = found
        if past is None:
            return self._sight(found, "", "", (), is_over=is_over)
        close = past.look(patience)
        return self._sight(found, close.html + close.more, close.text, close.acts, is_over=is_over)

    def _read(self, wanted: JobFilter, before: int | None, patience: float) -> JobList:
        def find(wanted: JobFilter, **options: int | None) -> object:
            return ask(self.link, "find_jobs", wanted, patience=patience, **options)

        self.problem = ""
        try:
            jobs, older = found_jobs(find, wanted, before, self.size)  # type: ignore[arg-type]
        except (NotFound, InvalidOption) as error:
            self.problem, jobs, older = str(error), [], None
        batches = self._batches(wanted, patience) if before is None and not self.problem else []
        project = wanted.project or None
        return JobList(jobs, batches, project, link=self.link, wanted=wanted, before=before, older=older)

    def _batches(self, wanted: JobFilter, patience: float) -> list[BatchStatus]:
        if wanted != JobFilter(state=wanted.state):
            return []
        batches: list[BatchStatus] = ask(self.link, "batches", limit=self.size, patience=patience)
        return [batch for batch in batches if wanted.state in ("", batch.state)]

    def _sight(self, found: JobList, more: str, close: str, acts: tuple[Act, ...], *, is_over: bool) -> Sight:
        html = browser_forms.page_html(found, self.problem)
        text = browser_forms.page_text(found, self.problem)
        return Sight(html, f"{text}\n\n{close}" if close else text, is_over, more, acts)
