"""Jobs behind the interface of `concurrent.futures`, for whatever program takes an executor."""

from .executor import Executor
from .futures import JobFuture

__all__ = ["Executor", "JobFuture"]
