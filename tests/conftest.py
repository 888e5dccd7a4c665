"""What all tests share."""

from __future__ import annotations

import signal


def pytest_configure() -> None:
    """Hear signals again where the tests run in the background: a shell ignores some there, for children too."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
