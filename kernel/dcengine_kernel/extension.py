"""What the kernel loads at its start: dcengine's extension, which may fail without taking the kernel along."""

from __future__ import annotations

import sys
from typing import Any

from .printed import keep_little

NAME = "dcengine"  #: as in ``%load_ext dcengine``


def load_ipython_extension(ip: Any) -> None:
    """Load dcengine's extension into *ip*; where that fails, the first cell says why."""
    keep_little(ip)
    try:
        ip.extension_manager.load_extension(NAME)
    except Exception as error:
        ip.log.warning("the dcengine extension was not loaded", exc_info=True)
        _tell_in_first_cell(ip, error)


def is_loaded(ip: Any) -> bool:
    """Tell whether *ip* has dcengine's extension."""
    return NAME in ip.extension_manager.loaded


def _tell_in_first_cell(ip: Any, error: Exception) -> None:
    """Print *error* above what the first cell of a person prints; front ends run hidden ones before it."""

    def tell(info: Any) -> None:
        if info.store_history:
            ip.events.unregister("pre_run_cell", tell)
            print(
                f"The dcengine extension was not loaded, so its magics are missing here: "
                f"{type(error).__name__}: {error}. `dcengine doctor` checks the installation; "
                f"then try again: %load_ext {NAME}",
                file=sys.stderr,
            )

    ip.events.register("pre_run_cell", tell)
