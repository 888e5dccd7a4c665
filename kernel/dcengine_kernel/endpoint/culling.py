"""Kernels that nobody needs any more end by themselves: front ends never end them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING

from dcengine.errors import DcengineError

if TYPE_CHECKING:
    from .kernel import Kernel

logger = logging.getLogger(__name__)

LOOK_SECONDS = 30.0  #: between two looks, less where kernels may be idle for less


async def cull(
    kernels: Iterable[Kernel],
    idle_seconds: float,
    *,
    has_work: Callable[[Kernel], Awaitable[bool]],
    end: Callable[[Kernel], Awaitable[None]],
) -> None:
    """End each of *kernels* that had nothing to do and no front end for *idle_seconds*; goes on until cancelled.

    *has_work* tells whether jobs of a kernel have not ended.
    """
    while True:
        await asyncio.sleep(min(LOOK_SECONDS, idle_seconds / 4))
        for kernel in list(kernels):
            try:
                is_needed = kernel.is_busy or kernel.connections > 0 or await has_work(kernel)
            except DcengineError:  # the engine is stopping, and the kernels with it
                continue
            if is_needed:
                kernel.last_use = time.monotonic()
            elif time.monotonic() - kernel.last_use >= idle_seconds:
                logger.info("kernel %s has been idle for %g s", kernel.short_id, idle_seconds)
                await end(kernel)
