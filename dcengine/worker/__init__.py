"""Workers that lease tasks over HTTP: a Python loop, and the command line for any other language."""

from __future__ import annotations

from .front import Task, Worker
from .held import HeldTask
from .worker import AsyncWorker

__all__ = ["AsyncWorker", "HeldTask", "Task", "Worker"]
