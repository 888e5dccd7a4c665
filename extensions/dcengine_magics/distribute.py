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

        The names that the cell uses are taken along, those that it assigns come back; what it shows appears here.
        """
        from .cells.sending import distribute

        distribute(self.shell, line, body)
