"""``--each``: the body of a cell once for each item, as one batch; its results a list."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from IPython.display import display

import dcengine
from dcengine.batches import BatchHandle, Reports
from dcengine.codec import unpack_failure
from dcengine.ends import ends_of, value_of
from dcengine.errors import NotPicklable
from dcengine.handles import JobHandle
from dcengine.verbs import JobResult

from ..views.formatters import has_widgets
from . import parcel
from .away import Follower
from .cell import CellResult
from .errors import FailedOne, InvalidCell, ItemsFailed, NamesCannotTravel
from .groups import Groups, label_of_item
from .item import ItemResult, label_of
from .options import Each
from .replay import RemoteValue, Replay
from .stop_button import StopButton
from .tracebacks import rendered

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

LISTED = 10  #: failed items that are told of one by one
OURS = __package__.partition(".")[0]  #: in the names of our files, wherever the worker has them
FRAME = re.compile(r'^ *File "(.+)", line (\d+).*\n(?: {4,}(?!\^)(.+))?', re.MULTILINE)


# ---- what the items are --------------------------------------------------------------------


def items_of(shell: InteractiveShell, each: Each) -> Iterable[Any]:
    """Return what ``--each`` goes through; raises what the expression raises, or `InvalidCell`."""
    try:
        found = eval(compile(each.expression, "<--each>", "eval"), shell.user_ns)
    except SyntaxError as error:
        raise InvalidCell(f"--each {each}: {error.msg}") from None
    except Exception as error:
        raise rendered(error, [f"--each {each}", f"{type(error).__name__}: {error}"]) from None
    try:
        iter(found)
    except TypeError:
        raise InvalidCell(
            f"--each {each}: {each.expression} is of type {type(found).__name__}, which has no items"
        ) from None
    return found  # type: ignore[no-any-return]


class Counted(Iterator[Any]):
    """Items on their way into a batch, counted so that one which cannot travel can be named."""

    def __init__(self, items: Iterable[Any]) -> None:
        self._items = iter(items)
        self.count = 0
        self._last: Any = None

    def __next__(self) -> Any:
        self._last = next(self._items)
        self.count += 1
        return self._last

    def refusal(self, error: NotPicklable) -> NamesCannotTravel:
        """Return *error*, which the last item met, as people understand it."""
        return NamesCannotTravel({f"item {self.count - 1} ({label_of(self._last)})": error.reason})


# ---- from the batch to the list ------------------------------------------------------------


class ItemResults(list[Any]):
    """What the body gave for each item, in order; in the place of one that failed stands its error."""

    def __init__(self, values: Iterable[Any], batch: BatchHandle, failures: dict[int, BaseException]) -> None:
        super().__init__(values)
        self.batch = batch  #: the handle that they are from
        self.failures = failures  #: by the items' places

    def __reduce__(self) -> tuple[Any, ...]:
        return list, ([*self],)

    def retry(self) -> Any:
        """Run the failed items again; return all results."""
        from IPython.core.getipython import get_ipython

        from .attaching import retry

        return retry(get_ipython(), f"batch {self.batch.id}")  # type: ignore[arg-type]  # there is one: it made this


class SentItems:
    """A cell that is a batch, an item of it for each run of the body."""

    def __init__(self, shell: InteractiveShell, batch: BatchHandle, replay: Replay) -> None:
        self.id, self.name = batch.id, f"batch {batch.id}"
        self.made: list[str] = []
        self.value: Any = None
        self._shell, self._batch, self._replay = shell, batch, replay
        self._is_live = True  #: the view is up to date by itself
        self._said: frozenset[int] | None = None  #: in a second try, the places of items that succeeded in the first

    def show(self) -> None:
        """Show the bar of the batch; where there are widgets it stays up to date, elsewhere the end shows it again."""
        self._is_live = (getattr(self._shell, "kernel", None) is not None and has_widgets()) or self.is_over()
        display(self._batch)

    def finish(self) -> Any:
        following = ItemsFollowing(self._batch, self._replay, Groups(self._shell, self._batch, self._said))
        following.follow()
        self._batch = following.batch
        if not self._is_live:
            display(self._batch)
        results, named = self._opened(following.ends)
        if results.failures:
            self._replay.remember(results)
            raise self._failure(results, following)
        if remote := sum(isinstance(value, RemoteValue) for value in results):
            self._replay.note(f"{remote:,} of {len(results):,} values stayed on their workers: they cannot travel")
        self._shell.push(named)
        self.made, self.value = list(named), results
        return results if not results or any(value is not None for value in results) else None

    def _opened(self, ends: dict[int, JobResult]) -> tuple[ItemResults, dict[str, list[Any]]]:
        """Return the values of all items, and by name what each of them made."""
        values: list[Any] = []
        named: list[dict[str, Any]] = []
        failures: dict[int, BaseException] = {}
        for place, end in sorted(ends.items()):
            try:
                found: ItemResult = value_of(self._batch.first_job + place, end)
                names, value = _unpacked(self._shell, found.made)
            except BaseException as error:  # it is the item's
                failures[place] = value = error
                names = {}
            values.append(value)
            named.append(names)
        every = dict.fromkeys(name for names in named for name in names)
        lists = {name: [names.get(name) for names in named] for name in every}
        return ItemResults(values, self._batch, failures), lists

    def _failure(self, results: ItemResults, following: ItemsFollowing) -> BaseException:
        """Return what the notebook raises: which items failed, and how to go on."""
        cancelled = [place for place in results.failures if following.ends[place].state == "cancelled"]
        failed = [place for place in results.failures if place not in set(cancelled)]
        listed = [_told(self._batch[place], following.ends[place], results[place]) for place in failed[:LISTED]]
        error = ItemsFailed(self.id, len(results), len(failed), len(cancelled), listed)
        error.results = results
        if following.presses:
            return rendered(KeyboardInterrupt(), [f"KeyboardInterrupt: {error}"])
        return rendered(error)

    def is_over(self) -> bool:
        return self._batch.done()

    def interrupt(self) -> None:
        self._batch.cancel()

    def cancel(self) -> None:
        self._batch.cancel()

    def retry(self) -> None:
        self._said = frozenset(_succeeded(self._batch))
        self._batch.retry_failed()


def _unpacked(shell: InteractiveShell, made: CellResult) -> tuple[dict[str, Any], Any]:
    """Return what the body made of one item, by name, and the value of its last expression."""
    names = parcel.unpack(made.names, shell.user_global_ns)
    if made.value is not None:
        return names, parcel.unpack(made.value, shell.user_global_ns)["_"]
    if made.value_is is not None:
        return names, names[made.value_is]
    return names, RemoteValue({}) if made.has_value else None


def _succeeded(batch: BatchHandle) -> Iterator[int]:
    for report in Reports(batch, 0.0, patient=False):
        if report.state == "succeeded":
            yield from range(report.first, report.first + report.count)


def _told(item: JobHandle, end: JobResult, error: BaseException) -> FailedOne:
    """Return what is said of a failed *item*: which it was, its error, and the last of the cell's lines."""
    failure = unpack_failure(end.data) if end.state == "failed" and end.data else None
    sentence = failure.sentence if failure is not None else f"{type(error).__name__}: {error}"
    return FailedOne(item.index or 0, label_of_item(item), sentence, last_line(failure.traceback if failure else ""))


def last_line(traceback: str) -> str:
    """Return the last line of the cell that *traceback*, as Python prints it, goes through.

    Its first frame that is none of ours is in the cell.
    """
    last = traceback.rpartition("Traceback (most recent call last):")[2]
    frames = FRAME.findall(last)
    outer = next((file for file, *_ in frames if OURS not in file), "")
    own = [(number, text) for file, number, text in frames if file == outer]
    return f"line {own[-1][0]}: {own[-1][1].strip()}".rstrip(": ") if own else ""


class ItemsFollowing(Follower):
    """The items of a batch, followed to the end of the last; what they say is said in their order."""

    def __init__(self, batch: BatchHandle, replay: Replay, groups: Groups) -> None:
        super().__init__(f"batch {batch.id}", replay)
        self.batch = batch  #: perhaps through another connection than at first
        self.ends: dict[int, JobResult] = {}  #: by place
        self._groups = groups
        self._reports = Reports(batch, None)

    def say_more(self, button: StopButton) -> bool:
        """Wait for more items, and say what those say whose turn it is; tell whether these were the last."""
        if not self._reports.is_at_end:
            with button.waiting():
                self._hear()
        self.is_back()
        self._groups.say(self.ends, button)
        return self._reports.is_at_end

    def _hear(self) -> None:
        asked = self._reports.ask()
        try:
            self._reports.take(asked.result())
        finally:
            asked.cancel()
        for report in self._reports.taken():
            self.ends.update(ends_of(report))

    def stop(self) -> None:
        """Cancel what has not ended; stop waiting when asked again."""
        if self.presses > 1:
            raise rendered(KeyboardInterrupt(), [f"KeyboardInterrupt: {self.later()}"])
        self._replay.note(f"cancelling what is left of {self.name}; once more stops waiting for it")
        self.batch.cancel()

    def find_again(self) -> None:
        """Ask for the batch through whatever connection there is now."""
        self.batch = dcengine.batch(self.batch.id)
        self._reports = Reports(self.batch, None)

    def later(self) -> str:
        """Return how the batch is found once its engine runs again."""
        return f"the engine keeps {self.name}; %distribute attach {self.name} shows it and takes its results home"
