"""The dcengine IPython extension: ``%%distribute``, and how handles and batches look in a notebook."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell


def load_ipython_extension(shell: InteractiveShell) -> None:
    """Give *shell* the magics and views; called by ``%load_ext dcengine`` and by the dcengine kernel."""
    from .distribute import DistributeMagics
    from .views import formatters

    shell.register_magics(DistributeMagics)
    formatters.register(shell)


def unload_ipython_extension(shell: InteractiveShell) -> None:
    """Take the magic away again."""
    shell.magics_manager.magics["cell"].pop("distribute", None)
