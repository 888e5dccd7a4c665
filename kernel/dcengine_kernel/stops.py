"""Stops that are seen at once, whatever a cell waits in.

CPython notes a signal when it comes, and acts on it when its main thread looks next: between two instructions, or when
a system call ends early. A signal that comes after the last look and before a call that lasts is acted on when the call
ends. That gap is wide where the main thread waits for another one, as after each print, whose text a thread of its own
sends: one stop in 250 that came right then stood until ``time.sleep`` was over. So a kernel hears of each stop a
second way, and has its main thread look once more.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from types import FrameType

LOOK_AGAIN = (0.05, 0.5, 2.0)  #: seconds from one to the next: a busy machine may not have been in the call before


def be_seen() -> None:
    """Have each interrupt end what the main thread, which calls this, waits in.

    Nothing is changed on Windows, where no thread can be signalled.
    """
    if sys.platform == "win32":
        return
    heard, told = os.pipe()
    os.set_blocking(told, False)
    signal.signal(signal.SIGURG, _only_look)  # ignored otherwise, and who asks for it expects it without a cause
    signal.set_wakeup_fd(told, warn_on_full_buffer=False)
    threading.Thread(target=_rouse, args=(heard,), name="stops", daemon=True).start()


def _rouse(heard: int) -> None:
    main = threading.main_thread().ident
    while numbers := os.read(heard, 512):
        if main is not None and signal.SIGINT in numbers:
            for seconds in LOOK_AGAIN:
                time.sleep(seconds)
                signal.pthread_kill(main, signal.SIGURG)


def _only_look(number: int, frame: FrameType | None) -> None:
    """Do nothing: Python has looked for signals, and found the stop."""
