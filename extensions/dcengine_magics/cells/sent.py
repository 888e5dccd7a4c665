"""A cell that was sent: followed to its end, what it made taken home. In the foreground, the background, or later."""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol

from dcengine.handles import JobHandle

from .following import Following
from .homecoming import Homecoming
from .names import Names
from .replay import Replay
from .sessions import Stay

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell


class Sent(Protocol):
    """Something of a cell's that the engine has."""

    id: int  #: that of the job, or of the batch
    name: str  #: such as ``job 12``
    made: list[str]  #: the names that came home with it
    value: Any  #: that of the last expression, once it is finished

    def show(self) -> None:
        """Show how far it is, if what it says does not."""
        ...

    def finish(self) -> Any:
        """Follow it to its end and take home what it made.

        Returns what the notebook has still to show of its value; raises what it raised.
        """
        ...

    def is_over(self) -> bool:
        """Tell whether it has ended."""
        ...

    def interrupt(self) -> None:
        """Interrupt what runs."""
        ...

    def cancel(self) -> None:
        """Cancel it."""
        ...

    def retry(self) -> None:
        """Have what failed run again."""
        ...


class SentCell:
    """A cell that is one job."""

    def __init__(
        self, shell: InteractiveShell, handle: JobHandle, replay: Replay, names: Names, stay: Stay | None = None
    ) -> None:
        self.id, self.name = handle.id, f"job {handle.id}"
        self.made: list[str] = []
        self.value: Any = None
        self._shell, self._handle, self._replay, self._names = shell, handle, replay, names
        self._stay = stay or Stay(shell, "")

    def show(self) -> None:
        """Leave that to what it says."""

    def finish(self) -> None:
        following = Following(self._handle, self._replay)
        error = following.to_the_end()
        self._handle = following.handle
        if error is not None:
            self._stay.failed(error, has_run=self._replay.error is not None)
            raise following.error_of(error) from None
        self._replay.end()
        result = self._handle.result()
        names = Homecoming(self._shell, self._replay, self._names).take(result)
        self._stay.succeeded(result)
        self.made = [name for name in names if not isinstance(self._shell.user_ns.get(name), ModuleType)]
        self.value = self._replay.value

    def is_over(self) -> bool:
        return self._handle.done()

    def interrupt(self) -> None:
        self._handle.interrupt()

    def cancel(self) -> None:
        self._handle.cancel()

    def retry(self) -> None:
        self._handle.retry()
