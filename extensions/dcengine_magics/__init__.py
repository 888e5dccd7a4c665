"""The dcengine IPython extension: ``%%distribute``, ``%jobs`` and its like, and how answers look in a notebook."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell


def load_ipython_extension(shell: InteractiveShell) -> None:
    """Give *shell* the magics and views; called by ``%load_ext dcengine`` and by the dcengine kernel."""
    from . import completion
    from .distribute import DistributeMagics
    from .lines import LineMagics
    from .views import formatters

    shell.register_magics(DistributeMagics, LineMagics)
    completion.register(shell)
    formatters.register(shell)


def unload_ipython_extension(shell: InteractiveShell) -> None:
    """Take the magics away again."""
    from .lines import NAMES

    magics = shell.magics_manager.registry.get("DistributeMagics")
    if magics is not None:
        magics.defaults.remove()
    for name in ("distribute", "local"):
        shell.magics_manager.magics["cell"].pop(name, None)
    for name in (*NAMES, "distribute"):
        shell.magics_manager.magics["line"].pop(name, None)
