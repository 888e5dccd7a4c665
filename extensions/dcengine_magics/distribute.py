"""``%%distribute``: run a cell on a worker as if it ran here. What does the work is imported with the first one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from IPython.core.magic import Magics, cell_magic, line_magic, magics_class, no_var_expand

from .cells.defaults import Defaults

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell


@magics_class
class DistributeMagics(Magics):
    """The magics that send cells to workers."""

    shell: InteractiveShell

    def __init__(self, shell: InteractiveShell) -> None:
        super().__init__(shell)
        self.defaults = Defaults(shell)
        self.defaults.install()

    @cell_magic
    @no_var_expand
    def distribute(self, line: str, body: str) -> Any:
        """Run this cell on a worker.

        %%distribute [--tags EXPR] [--devices gpu=1] [--out a,b] [--timeout SECONDS] [--retries N]
                     [--session NAME] [--each X in XS] [--background] [--stage PROJECT.STAGE] [--dry-run]

        --tags EXPR      the tags that the worker must have, such as "gpu.memory>=16GiB"
        --devices K=N    devices of the cell's own, such as gpu=1
        --out a,b        bring back just these names, instead of all that the cell assigns
        --timeout S      how many seconds it may take
        --retries N      how often it runs again after an error
        --session NAME   run in the process of this name, where what earlier cells made there still is
        --keep-above S   leave what is larger than that where it is, such as 64MiB; the notebook gets a reference
        --each x in xs   run the body once for each item, side by side; the cell's value is the list of its values
        --background     go on at once; what the cell says appears in its place, and its names come when it ends
        --stage P.S      make the body stage S of project P; with --each, send the items through
        --dry-run        show what would travel, and which worker could run it; run nothing

        The names that the cell uses are taken along, those that it assigns come back; what it shows appears here.
        The stop button interrupts it there; pressed again, it kills it.
        """
        from .cells.sending import distribute

        return distribute(self.shell, line, body, self.defaults)

    @line_magic("distribute")  # type: ignore[arg-type]  # IPython's own way to name one
    def distribute_line(self, line: str) -> Any:
        """Send cells to workers by default, or find those again that were sent.

        %distribute                     say what is set
        %distribute on [EXPR] [--session NAME] [--timeout SECONDS] [--retries N] [--devices gpu=1]
                                        send cells without a magic of their own to a worker with the tags EXPR
        %distribute off                 run them here again
        %distribute wait [ID]           wait for cells in the background: for all of them, or for one
        %distribute attach [ID]         show a cell that was sent before, from any kernel, and take home what it made;
                                        without ID, list your last ones
        %distribute end NAME            end a session, with all that its process keeps
        %distribute retry ID            run again what failed of a cell, and take home all of it
        """
        from .cells.commands import command

        return command(self.shell, self.defaults, line)

    @cell_magic
    def local(self, line: str, body: str) -> None:
        """Run this cell here, whatever `%distribute on` says."""
        # This is for magics in magics: at the top of a cell a transformer takes the line away, so that it may await.
        self.shell.ex(self.shell.transform_cell(body))
