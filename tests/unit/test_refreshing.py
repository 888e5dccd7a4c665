"""Live views: how often they look and draw, and how they end."""

from __future__ import annotations

import threading

import pytest

from dcengine.errors import EngineUnreachable, NotFound
from dcengine_magics.views import refreshing
from dcengine_magics.views.refreshing import GIVEN_UP, TRYING, Refresher, View
from dcengine_magics.views.sights import Sight
from tests.engines import eventually


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Counter:
    """A subject that looks different each time, until it is over or has no engine."""

    cancel = None

    def __init__(self) -> None:
        self.looks = 0
        self.is_still = self.is_over = False
        self.error: Exception | None = None

    def look(self, patience: float) -> Sight:
        self.looks += 1
        if self.error is not None:
            raise self.error
        shown = "still" if self.is_still else str(self.looks)
        return Sight(shown, shown, self.is_over)


class Paper:
    """A screen that remembers."""

    def __init__(self) -> None:
        self.drawn: list[tuple[str, str]] = []
        self.finished: list[tuple[str, str]] = []
        self.is_torn = False

    def draw(self, sight: Sight, note: str) -> None:
        if self.is_torn:
            raise RuntimeError("closed")
        self.drawn.append((sight.text, note))

    def finish(self, sight: Sight, note: str) -> None:
        self.finished.append((sight.text, note))

    def repeat(self) -> None: ...

    def close(self) -> None:
        self.is_torn = True


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def counter() -> Counter:
    return Counter()


@pytest.fixture
def paper() -> Paper:
    return Paper()


@pytest.fixture
def view(counter: Counter, paper: Paper, clock: Clock) -> View:
    return View(counter, paper, Sight("first", "first", False), clock)


def pass_time(view: View, clock: Clock, seconds: float) -> None:
    """Refresh *view* whenever it is due, as the thread does."""
    end = clock.now + seconds
    while view.is_live and view.due <= end:
        clock.now = max(clock.now, view.due)
        view.refresh()
    clock.now = end


def test_a_view_that_changes_is_looked_at_five_times_a_second(
    view: View, counter: Counter, paper: Paper, clock: Clock
) -> None:
    pass_time(view, clock, 10.01)

    assert counter.looks == 50
    assert len(paper.drawn) == 50


def test_a_view_is_drawn_ten_times_a_second_at_most_whoever_asks(view: View, paper: Paper, clock: Clock) -> None:
    for _ in range(1000):
        view.refresh()
        clock.now += 0.001

    assert 9 <= len(paper.drawn) <= 10


def test_what_came_too_soon_to_be_drawn_is_drawn_later(
    view: View, counter: Counter, paper: Paper, clock: Clock
) -> None:
    counter.is_still = True
    view.refresh()
    assert not paper.drawn

    pass_time(view, clock, 1.0)

    assert paper.drawn == [("still", "")]


def test_a_view_that_does_not_change_is_looked_at_less_often_and_not_drawn(
    view: View, counter: Counter, paper: Paper, clock: Clock
) -> None:
    counter.is_still = True
    pass_time(view, clock, 60.0)

    assert counter.looks < 70
    assert len(paper.drawn) == 1


def test_the_end_is_shown_once_and_nothing_follows(view: View, counter: Counter, paper: Paper, clock: Clock) -> None:
    counter.is_over = True
    pass_time(view, clock, 60.0)
    view.refresh()

    assert paper.finished == [("1", "")]
    assert counter.looks == 1
    assert not paper.drawn
    assert not view.is_live


def test_an_engine_that_goes_and_comes_back_leaves_a_remark_only_meanwhile(
    view: View, counter: Counter, paper: Paper, clock: Clock
) -> None:
    counter.is_still = True
    pass_time(view, clock, 1.0)
    counter.error = EngineUnreachable("http://127.0.0.1:1", "refused")
    pass_time(view, clock, 5.0)
    assert view.is_lost
    counter.error = None
    pass_time(view, clock, 20.0)

    assert paper.drawn == [("still", ""), ("still", TRYING), ("still", "")]
    assert not view.is_lost


def test_an_engine_that_stays_away_is_asked_less_often_and_given_up_after_a_minute(
    view: View, counter: Counter, paper: Paper, clock: Clock
) -> None:
    counter.error = EngineUnreachable("http://127.0.0.1:1", "refused")
    pass_time(view, clock, 55.0)
    assert view.is_live
    pass_time(view, clock, 20.0)

    assert paper.finished == [("first", GIVEN_UP)]
    assert counter.looks < 15


def test_what_is_not_there_ends_the_view_with_the_reason(view: View, counter: Counter, paper: Paper) -> None:
    counter.error = NotFound("batch", 7)
    view.refresh()

    assert paper.finished[0][1].startswith("no batch 7")


def test_a_look_that_fails_ends_the_view_with_what_was_seen_last(
    view: View, counter: Counter, paper: Paper, caplog: pytest.LogCaptureFixture
) -> None:
    counter.error = KeyError("surprise")
    view.refresh()

    assert paper.finished == [("first", "this view failed: KeyError")]
    assert "surprise" in caplog.text


def test_a_screen_that_is_gone_ends_its_view_without_a_word(view: View, paper: Paper, clock: Clock) -> None:
    paper.is_torn = True
    pass_time(view, clock, 1.0)

    assert not view.is_live


# ---- the thread ----------------------------------------------------------------------------


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "dcengine-views"]


def test_one_thread_looks_after_all_views_and_ends_with_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refreshing, "LOOK_SECONDS", 0.001)
    refresher = Refresher()
    counters = [Counter() for _ in range(5)]
    for counter in counters:
        refresher.watch(View(counter, Paper(), Sight("", "", False)))

    eventually(lambda: all(counter.looks for counter in counters))
    assert len(threads()) == 1
    for counter in counters:
        counter.is_over = True

    eventually(lambda: not threads())
    assert not refresher.views


def test_a_view_that_comes_after_the_thread_has_ended_gets_another() -> None:
    refresher = Refresher()
    for _ in range(3):
        counter = Counter()
        counter.is_over = True
        refresher.watch(View(counter, Paper(), Sight("", "", False)))
        eventually(lambda: not threads())

        assert counter.looks == 1


def test_a_hurried_view_is_looked_at_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refreshing, "LOOK_SECONDS", 1000.0)
    refresher, counter = Refresher(), Counter()
    view = View(counter, Paper(), Sight("", "", False))
    refresher.watch(view)
    counter.is_over = True

    refresher.hurry(view)

    eventually(lambda: not threads())
    assert counter.looks == 1


def test_a_stopped_refresher_looks_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    refresher, counter = Refresher(), Counter()
    refresher.watch(View(counter, Paper(), Sight("", "", False)))

    refresher.stop()

    assert not threads()
    refresher.watch(View(counter, Paper(), Sight("", "", False)))
    assert not threads()


def test_a_view_that_is_over_goes_on_when_somebody_does_something(view: View, counter: Counter, paper: Paper) -> None:
    counter.is_over = True
    view.refresh()
    counter.is_over = False
    refresher = Refresher()
    refresher.wake(view)
    eventually(lambda: counter.looks > 1)

    assert len(paper.finished) == 1
    assert refresher.views == [view]
    refresher.stop()


def test_a_view_that_nobody_sees_any_more_asks_no_more(view: View, counter: Counter, paper: Paper) -> None:
    view.leave()
    view.refresh()

    assert paper.is_torn
    assert (counter.looks, paper.finished) == (0, [])
