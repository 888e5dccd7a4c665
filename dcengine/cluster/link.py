"""The engine's own connection to a Dask scheduler and, directly, to its workers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from contextlib import contextmanager, suppress
from importlib import resources
from typing import Any

from distributed import Client, Future

from ..errors import SchedulerUnreachable
from .host import install, topic_of
from .lane import Lane
from .nodes import security
from .pilot import pilot_function
from .settings import Certificate

CONNECT_SECONDS = 5.0  #: a scheduler that has not answered by then is unreachable
CLOSE_SECONDS = 0.5
HUNG_UP = "IOStream is not idle"

logger = logging.getLogger(__name__)

Event = dict[str, Any]


class Link:
    """One client of one scheduler."""

    def __init__(self, client: Any, engine: str) -> None:
        self._client = client  # half of Dask's asynchronous surface is typed as the blocking one
        self.engine = engine
        self._connection: Any = None  # set once connected
        self._pilot = pilot_function()

    @classmethod
    async def connect(cls, address: str, *, engine: str, certificate: Certificate | None = None) -> Link:
        """Return a link to the scheduler at *address*; raises `SchedulerUnreachable`."""
        client: Any = Client(
            address,
            asynchronous=True,
            security=security(certificate),
            set_as_default=False,
            timeout=CONNECT_SECONDS,
            name=f"dcengine-{engine}",
        )
        link = cls(client, engine)
        try:
            await client
        except (OSError, ValueError, TypeError, RuntimeError, asyncio.TimeoutError) as error:
            await link.close()
            raise SchedulerUnreachable(address, str(error) or type(error).__name__) from error
        except asyncio.CancelledError:
            await link.close()  # it would go on trying
            raise
        link._connection = client.scheduler_comm
        return link

    @property
    def is_alive(self) -> bool:
        """Whether the scheduler is at the other end, without a break: Dask's client forgets what it listens to."""
        return bool(self._client.status == "running" and self._client.scheduler_comm is self._connection)

    def listen(self, *, on_worker: Callable[[Event], None], on_word: Callable[[Event], None]) -> None:
        """Call *on_worker* when workers come or go, *on_word* for what our side on the workers says."""
        self._client.subscribe_topic("all", lambda event: on_worker(event[1]))
        self._client.subscribe_topic(topic_of(self.engine), lambda event: on_word(event[1]))

    @property
    def scheduler(self) -> str:
        """The scheduler's address."""
        return str(self._client.scheduler.address)

    async def addresses(self) -> set[str]:
        """Return the addresses of all workers of the scheduler; raises `OSError` when it is gone."""
        return set(await _answered(self._client.scheduler.ncores()))

    async def probe(self, address: str) -> dict[str, Any]:
        """Return what the worker at *address* is, whether or not it has dcengine."""
        source = resources.files(__package__).joinpath("probe.py").read_text("utf-8")
        # `eval` is pickled by its name: the worker needs nothing of ours to understand it
        question = f"(lambda names: (exec({source!r}, names), names['probe']({address!r}))[1])({{}})"
        answers = await self._client.run(eval, question, workers=[address])
        return dict(answers[address])

    async def reach(self, address: str) -> None:
        """Check that this process can talk to the worker directly; raises `OSError`."""
        await self.call(address, "ping")

    async def install(
        self, address: str, names: Iterable[str], *, home: str = "", values_limit: int = 0
    ) -> dict[str, str | None]:
        """Install our side on the worker at *address*; return the tags its machine offers, *names* looked up too.

        It may keep *values_limit* bytes of values for the database called *home*.
        """
        answers = await self._client.run(
            install, engine=self.engine, names=sorted(names), home=home, values_limit=values_limit, workers=[address]
        )
        return dict(answers[address])

    def send_pilot(self, address: str, *, key: str, number: int, processes: bool, idle: float | None) -> Future[str]:
        """Start the pilot of slot *number* on the worker at *address*."""
        pilot: Future[str] = self._client.submit(
            self._pilot,
            engine=self.engine,
            number=number,
            pilot=key,
            processes=processes,
            idle=idle,
            key=key,
            workers=[address],
            allow_other_workers=False,
            pure=False,
        )
        return pilot

    def call(self, address: str, operation: str, **facts: Any) -> Coroutine[Any, Any, Any]:
        """Ask the worker at *address* directly; awaiting it raises `OSError` when the worker is gone."""
        return _answered(getattr(self._client.rpc(address), operation)(**facts))

    def ask(self, address: str, operation: str, **facts: Any) -> Coroutine[Any, Any, Any]:
        """Ask our side on the worker at *address*."""
        return self.call(address, f"dcengine_{operation}", engine=self.engine, **facts)

    async def lane(self, address: str, path: str) -> Lane | None:
        """Return a shorter way to the worker at *address*, who listens at *path*; None if it is on another machine."""
        return None if address.startswith("inproc") or not path else await Lane.connect(path)

    async def close(self) -> None:
        """Leave the scheduler; it releases our pilots."""
        if self.is_alive:  # otherwise the scheduler tells the one who leaves that he left, and logs that it cannot
            self._client.unsubscribe_topic("all")
        try:
            with suppress(asyncio.TimeoutError, OSError), _quiet_client():
                await asyncio.wait_for(self._client.close(timeout=CLOSE_SECONDS), CLOSE_SECONDS)
        except Exception as error:  # its own, of an earlier attempt to reach the scheduler: told again by each close()
            logger.info("Dask's client did not close by itself: %s: %s", type(error).__name__, error)
            self._client.status = "closed"
            await self._client.rpc.close()


async def _answered(asking: Awaitable[Any]) -> Any:
    """Return the answer to what Dask is *asking*; raises `OSError` where the other end is gone."""
    try:
        return await asking
    except ValueError as error:  # of tornado, about a connection that was cut before its handshake
        if HUNG_UP not in str(error):
            raise
        raise ConnectionAbortedError("it has hung up before the handshake") from error


@contextmanager
def _quiet_client() -> Iterator[None]:
    """Keep Dask from logging, as an error with a traceback, that it was closed while it tried to reconnect."""
    logger = logging.getLogger("distributed.client")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)
