"""The kernels that run here: started, listed, ended. What one of them is stands in `kernel`, loaded for the first."""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import re
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from dcengine.endpoints import Surroundings
from dcengine.verbs import Grant

from ..tagged import TAGS
from .contents import folder_for
from .culling import cull
from .kernelspecs import DEFAULT, kernelspecs
from .open_files import most_front_ends
from .refusing import Refused

if TYPE_CHECKING:
    from .kernel import Kernel
    from .links import Link

logger = logging.getLogger(__name__)

MOMENT = "%Y-%m-%dT%H:%M:%S.%fZ"  #: gateways of Jupyter read no other form
ID = re.compile(r"[A-Za-z0-9_-]{1,100}")
OURS = ("DCENGINE_URL", "DCENGINE_TOKEN", "DCENGINE_KERNEL_ID")
GIVEN = re.compile(r"KERNEL_[A-Z0-9_]{1,100}")  #: what a front end may set in the environment of its kernel
MOST_GIVEN = 32_768  #: characters of one such value
ENDING_SECONDS = 10.0  #: for all kernels to end with the application
MOST_KERNELS = 200
STARTING_AT_ONCE = max(4, 2 * (os.cpu_count() or 1))  #: processes; more would only be in each other's way
RESTARTS = 1012  #: closes a websocket whose server goes down: come back


class UnknownKernelspec(Refused):
    """There is no kernel of this name to start."""

    def __init__(self, name: str, known: list[str]) -> None:
        super().__init__(
            501, f"there is no kernel named {name[:100]!a} here; those there are: {', '.join(known)}", "unknown"
        )


class Kernels:
    """The kernels of one application, by their ids."""

    def __init__(self, surroundings: Surroundings) -> None:
        self.started = datetime.now(timezone.utc)
        self._surroundings = surroundings
        self._kernels: dict[str, Kernel] = {}
        self._starting: dict[str, Kernel | None] = {}
        self._turns = asyncio.Semaphore(STARTING_AT_ONCE)
        self._context: Any = None
        self._last_activity = self.started
        self._culling: asyncio.Task[None] | None = None
        self._is_closing = False

    # ---- what there is ---------------------------------------------------------------------

    def __iter__(self) -> Iterator[Kernel]:
        return iter(list(self._kernels.values()))

    def of(self, grant: Grant | None) -> list[Kernel]:
        """Return the kernels that whoever has *grant* may use: one that acts with an admin's token is an admin's."""
        is_admin = grant is not None and grant.role == "admin"
        return [kernel for kernel in self._kernels.values() if is_admin or not kernel.is_admins]

    def get(self, id: str, grant: Grant | None) -> Kernel:
        """Return kernel *id*; raises `Refused` where whoever has *grant* knows none."""
        if self._is_closing:
            raise Refused(503, "the engine is stopping, and its kernels with it", "stopping")
        kernel = self._kernels.get(id)
        if kernel is None or kernel not in self.of(grant):
            raise Refused(404, f"Kernel does not exist: {id[:100]}", "Not Found")
        return kernel

    def models(self) -> list[dict[str, Any]]:
        """Return each kernel as front ends are told of it."""
        return [model_of(kernel) for kernel in self._kernels.values()]

    @property
    def last_activity(self) -> datetime:
        """When a kernel last said something, or was ended."""
        for kernel in self._kernels.values():
            self._last_activity = max(self._last_activity, moment(kernel.last_activity))
        return self._last_activity

    @property
    def connections(self) -> int:
        """How many websockets are open."""
        return sum(kernel.connections for kernel in self._kernels.values())

    def is_in_use(self) -> bool:
        """Tell whether a kernel works or a front end is there; what jobs of kernels have to do, their engine knows."""
        return bool(self._starting) or any(kernel.is_busy or kernel.connections for kernel in self._kernels.values())

    # ---- starting and ending ---------------------------------------------------------------

    async def start(
        self,
        name: str | None,
        grant: Grant | None,
        *,
        token: str,
        id: str | None = None,
        path: str = "",
        given: Mapping[str, object] | None = None,
    ) -> Kernel:
        """Start a kernel of the kernelspec *name*, for a document at *path*; raises `Refused`."""
        id = self._free(id)
        self._starting[id] = None
        try:
            kernel, env = await self._made(id, name or DEFAULT, grant), self._environment(id, token, given or {})
            env = {**env, "JPY_SESSION_NAME": path} if path else env
            if kernel.is_elsewhere or env.get(TAGS):  # it may wait long for a free slot
                await self._begin(kernel, env, self._folder(path))
            else:
                async with self._turns:
                    await self._begin(kernel, env, self._folder(path))
        finally:
            del self._starting[id]
        logger.info("kernel %s (%s) runs", kernel.short_id, kernel.name)
        await self._surroundings.verbs.note_kernel(kernel.name)
        return kernel

    def link(self, kernel: Kernel, session_id: str) -> Link:
        """Return the link of *session_id* at *kernel*; raises `Refused` where there are too many."""
        most = most_front_ends()
        if session_id not in kernel.links and sum(len(each.links) for each in self) >= most:
            raise Refused(
                503, f"{most} front ends are connected, as many as the limit of open files allows: close notebooks, or "
                "start the engine with a higher one (ulimit -n)", "too many",
            )  # fmt: skip
        return kernel.link(session_id)

    async def end(self, kernel: Kernel, *, now: bool = False) -> None:
        """End *kernel*; its websockets are closed."""
        if self._kernels.pop(kernel.id, None) is not None:
            self._last_activity = datetime.now(timezone.utc)
            await kernel.end(now=now)
            logger.info("kernel %s has ended", kernel.short_id)
            await self._surroundings.verbs.note_kernel(kernel.name, has_ended=True)

    async def close(self) -> None:
        """End all kernels: the application ends."""
        self._is_closing = True
        if self._culling is not None:
            self._culling.cancel()
        kernels = [*self, *filter(None, self._starting.values())]
        await asyncio.gather(*(kernel.end_links(RESTARTS, "the engine stops") for kernel in kernels))
        ends = [asyncio.ensure_future(kernel.end()) for kernel in kernels]
        if ends:
            _, late = await asyncio.wait(ends, timeout=ENDING_SECONDS)
            for end in late:
                end.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        if self._context is not None:
            self._context.destroy(linger=0)

    def _free(self, id: str | None) -> str:
        """Return *id* if no kernel has it, or a new one."""
        self._refuse_while_closing()
        if len(self._kernels) + len(self._starting) >= MOST_KERNELS:
            told = f"there are {MOST_KERNELS} kernels, as many as may be: end some that are idle"
            raise Refused(429, told, "too many")
        if id is None:
            return str(uuid4())
        if not ID.fullmatch(id):
            raise Refused(400, f"{id[:100]!a} cannot be the id of a kernel; a UUID can", "Bad Request")
        if id in self._kernels or id in self._starting:
            raise Refused(
                409, f"there is a kernel {id} already; leave kernel_id out and it gets a free one", "Conflict"
            )
        return id

    def _refuse_while_closing(self) -> None:
        if self._is_closing:
            raise Refused(503, "the engine is stopping; start it again, then the kernel", "stopping")

    async def _made(self, id: str, name: str, grant: Grant | None) -> Kernel:
        specs = await asyncio.to_thread(kernelspecs, self._surroundings.settings)
        await asyncio.to_thread(_load)
        if name not in specs:
            raise UnknownKernelspec(name, sorted(specs))
        from .kernel import Kernel
        from .wires import new_context

        if self._context is None:
            self._context = new_context()
        is_admins = grant is not None and grant.role == "admin"
        return Kernel(id, name, specs[name], self._context, is_admins=is_admins, whose=name_of(grant))

    async def _begin(self, kernel: Kernel, env: dict[str, str], folder: str) -> None:
        self._refuse_while_closing()
        self._starting[kernel.id] = kernel
        try:
            await kernel.start(env=env, cwd=folder)
        except BaseException:
            await kernel.end(now=True)
            raise
        self._kernels[kernel.id] = kernel
        idle = self._surroundings.settings.kernel_idle
        if self._culling is None and idle is not None:
            culling = cull(self, idle, has_work=self._has_work, end=self.end)
            self._culling = asyncio.get_running_loop().create_task(culling)
        if self._is_closing:
            await self.end(kernel, now=True)

    async def _has_work(self, kernel: Kernel) -> bool:
        return await self._surroundings.verbs.has_work_of(kernel.id)

    def _environment(self, id: str, token: str, given: Mapping[str, object]) -> dict[str, str]:
        """Return the environment of kernel *id*, which acts for who has *token* and was *given* some of it."""
        taken = {name: value for name, value in given.items() if isinstance(value, str) and GIVEN.fullmatch(name)}
        fitting = {name: value for name, value in taken.items() if "\0" not in value and len(value) <= MOST_GIVEN}
        own = zip(OURS, (self._surroundings.url(), token, id), strict=True)
        return {**os.environ, **fitting, **dict(own)}

    def _folder(self, path: str) -> str:
        """Return the folder in which the kernel of the document at *path* runs."""
        return folder_for(self._surroundings.settings.files, path) or os.getcwd()


def _load() -> None:
    """Load what speaks with kernels: that takes a third of a second, which the loop does not have."""
    importlib.import_module(f"{__package__}.kernel")


def name_of(grant: Grant | None) -> str:
    """Return what people call whoever has *grant*."""
    if grant is None:
        return ""
    return grant.nickname or ("owner" if grant.id is None else f"token {grant.id}")


def moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, timezone.utc)


def model_of(kernel: Kernel) -> dict[str, Any]:
    """Return *kernel* as front ends are told of it."""
    return {
        "id": kernel.id,
        "name": kernel.name,
        "last_activity": moment(kernel.last_activity).strftime(MOMENT),
        "execution_state": kernel.state,
        "connections": kernel.connections,
    }
