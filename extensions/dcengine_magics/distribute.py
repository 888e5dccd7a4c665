"""``%%distribute``: run a cell on a worker as if it ran here. What does the work is imported with the first one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from IPython.core.magic import Magics, cell_magic, magics_class

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell


@magics_class
class DistributeMagics(Magics):
    """The magic that sends cells to workers."""

    shell: InteractiveShell

    @cell_magic
    def distribute(self, line: str, body: str) -> None:
        """Run this cell on a worker.

        %%distribute [--tags EXPR] [--out a,b] [--timeout SECONDS] [--retries N] [--dry-run]

        --tags EXPR      the tags that the worker must have, such as "gpu.memory>=16GiB"
        --out a,b        bring back just these names, instead of all that the cell assigns
        --timeout S      how many seconds it may take
        --retries N      how often it runs again after an error
        --dry-run        show what would travel, and which worker could run it; run nothing

        The names that the cell uses are taken along, those that it assigns come back; what it shows appears here.
        The stop button interrupts it there; pressed again, it kills it.
        """
        from .cells.sending import distribute

        distribute(self.shell, line, body)
