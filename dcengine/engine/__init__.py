"""The engine: it stores jobs, feeds them to workers, and is the only one that moves a task's state."""

from .engine import Engine

__all__ = ["Engine"]
