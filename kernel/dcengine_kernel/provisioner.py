"""Kernels on tagged machines: the kernel's process is itself a job on a worker that has the tags."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import Any, TypeVar

import zmq
from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.provisioning.local_provisioner import LocalProvisioner
from jupyter_client.provisioning.provisioner_base import KernelProvisionerBase
from traitlets import Float, Unicode

from dcengine import config
from dcengine.client import Client
from dcengine.loops import LoopThread
from dcengine.owner import find_or_start

from .errors import KernelNotStarted
from .remote.launching import Launch
from .remote.line import Begin
from .tagged import TAGS

LIMIT = "KERNEL_LAUNCH_TIMEOUT"  #: like it: how many seconds whoever asks will wait; Jupyter's gateways say it
MARGIN = 2.0  #: seconds that our answer comes earlier
TRAVELS = ("DCENGINE_URL", "DCENGINE_TOKEN", "DCENGINE_KERNEL_ID", "JPY_SESSION_NAME")

T = TypeVar("T")


class WorkerProvisioner(LocalProvisioner):
    """Starts a kernel on a worker with its tags; without any it is a process here, as ever.

    What talks to the engine and to the kernel's host lives on a loop of its own: Jupyter may let its own stand still
    between two calls.
    """

    tags = Unicode("", config=True, help="What a worker must have to run the kernel, such as gpu.memory>=16GiB.")
    launch_timeout = Float(60.0, config=True, help="Seconds for a worker to become free, and the kernel to start.")
    patience = Float(600.0, config=True, help="Seconds after which a kernel ends of whose Jupyter nothing is heard.")

    _wanted = ""  #: the tags of this start; empty: here
    _arguments: list[str] = []
    _before: dict[str, Any] = {}  #: how the kernel was reached last
    _launch: Launch | None = None
    _loop: LoopThread | None = None

    @property
    def has_process(self) -> bool:
        return self._launch is not None or super().has_process

    async def pre_launch(self, **kwargs: Any) -> dict[str, Any]:
        """Find out where the kernel is to run; called before each start."""
        self._wanted = kwargs.get("env", os.environ).get(TAGS, "").strip() or self.tags.strip()
        if not self._wanted:
            return await super().pre_launch(**kwargs)
        refuse_without_curve(self._wanted, self.parent)
        kwargs.pop("transport_encryption", None)  # there is no other way
        self._arguments = kwargs.pop("extra_arguments", None) or []
        return await KernelProvisionerBase.pre_launch(self, cmd=[*self.kernel_spec.argv, *self._arguments], **kwargs)

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> KernelConnectionInfo:
        """Start the kernel; raises `KernelNotStarted` where no worker has the tags, or none is free in time."""
        if not self._wanted:
            return await super().launch_kernel(cmd, **kwargs)
        await self._let_go()
        folder = os.path.abspath(kwargs.get("cwd") or ".")  # noqa: ASYNC240  nothing is looked up
        self._loop = LoopThread("dcengine-kernel")
        try:
            self.connection_info = await self._on_loop(self._launched(kwargs["env"], folder))
        except BaseException:
            await self._let_go()
            raise
        return self.connection_info

    async def poll(self) -> int | None:
        return await super().poll() if self._launch is None else self._launch.status

    async def wait(self) -> int | None:
        if self._launch is None:
            return await super().wait()
        launched = self._launch
        while not launched.has_ended():
            await asyncio.sleep(0.05)
        await self._let_go()
        return launched.status

    async def send_signal(self, signum: int) -> None:
        if self._launch is None:
            await super().send_signal(signum)
        elif signum != 0:
            await self._on_loop(self._launch.signal(signum))

    async def kill(self, restart: bool = False) -> None:
        if self._launch is None:
            await super().kill(restart)
        else:
            await self._on_loop(self._launch.kill())

    async def terminate(self, restart: bool = False) -> None:
        if self._launch is None:
            await super().terminate(restart)
        else:
            await self._on_loop(self._launch.signal(signal.SIGTERM))

    async def cleanup(self, restart: bool = False) -> None:
        await self._let_go()
        await super().cleanup(restart)

    def resolve_path(self, path_str: str) -> str | None:
        return super().resolve_path(path_str) if self._launch is None else None  # its files are the worker's

    async def get_provisioner_info(self) -> dict[str, Any]:
        launched = self._launch
        return {**await super().get_provisioner_info(), "job": None if launched is None else launched.job}

    # ---- on the loop of its own ------------------------------------------------------------------

    async def _launched(self, env: Mapping[str, str], folder: str) -> KernelConnectionInfo:
        """Return how the kernel is reached, once it listens; it works in *folder*, where the worker has that."""
        client = await client_for(env, folder)
        self._launch = Launch(client, self._wanted)
        engine = {"DCENGINE_URL": client.url, **({"DCENGINE_TOKEN": client.token} if client.token else {})}
        chosen = {name: value for name, value in env.items() if self._travels(name)}
        before = self._before if getattr(self.parent, "shell_port", 0) else {}  # unless new ports are asked for
        begin = Begin({**chosen, **engine}, self._arguments, folder, self.patience, before)
        title = f"kernel {self.kernel_id[:8]} ({self._wanted})"
        connection = self._before = await self._launch.start(title, begin, limit_in(env, self.launch_timeout))
        return {**connection, "key": connection["key"].encode()}  # type: ignore[typeddict-item]

    def _travels(self, name: str) -> bool:
        """Tell whether a variable of this environment is for the kernel wherever it runs."""
        return name in TRAVELS or name.startswith("KERNEL_") or name in self.kernel_spec.env

    async def _on_loop(self, work: Coroutine[Any, Any, T]) -> T:
        assert self._loop is not None
        return await asyncio.wrap_future(self._loop.start(work))

    async def _let_go(self) -> None:
        """End what is left of a kernel on a worker, and its loop."""
        (launched, self._launch), (loop, self._loop) = (self._launch, None), (self._loop, None)
        if loop is None:
            return
        try:
            if launched is not None:
                await asyncio.wrap_future(loop.start(launched.close()))
        finally:
            loop.stop()


async def client_for(env: Mapping[str, str], folder: str) -> Client:
    """Return the way to the engine that a program in *folder* with this environment would use."""
    settings = config.load(directory=folder, environment=env)
    if settings.url:
        return Client(settings.url, settings.token)

    async def resolve() -> tuple[str, str]:
        owner = await asyncio.to_thread(lambda: find_or_start(Path(folder, settings.db).resolve()))
        return owner.url, owner.token

    return Client(*await resolve(), resolve)


def limit_in(env: Mapping[str, str], otherwise: float) -> float:
    """Return how many seconds a start may take, so that whoever asks hears of its failure before giving up."""
    try:
        return min(otherwise, max(1.0, float(env.get(LIMIT, "")) - MARGIN))
    except ValueError:
        return otherwise


def refuse_without_curve(tags: str, manager: object) -> None:
    """Raise `KernelNotStarted` where Jupyter cannot encrypt: the sockets would be open to all who reach them."""
    if manager is not None and not hasattr(manager, "curve_publickey"):
        raise KernelNotStarted(tags, "its sockets are to be encrypted; pip install 'jupyter_client>=8.9' for that")
    if not zmq.has("curve"):
        raise KernelNotStarted(tags, "its sockets are to be encrypted; install pyzmq with libsodium for that")
