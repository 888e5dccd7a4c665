"""Real worker processes that are killed, paused and cut off while their server is killed, stopped and started again.

Each task is accepted once, credit is exact, and what a lost worker held is handed out again in time.
"""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from dcengine.client import Client
from dcengine.codec import pack, pack_json
from dcengine.errors import DcengineError
from dcengine.verbs import ItemsSubmission, ProjectSpec, StageSpec
from tests.engines import serving
from tests.faults.aftermath import check_survivor
from tests.faults.conftest import IS_LONG, in_form
from tests.faults.crowd import Crowd, Post, heart_of, told_in
from tests.faults.networks import Namespaces, Network, Networks, Proxies, namespaces_are_permitted, networks, port_of
from tests.faults.reckoning import Absence, Loss, reclaims, take_stock
from tests.faults.report import recorded

Place = tuple[Crowd, Network]  #: where workers begin, and their line to the server

PROJECT, STAGES, NICKNAMES = "laion", "ab", 7
FINAL_PATIENCE = 120.0  #: seconds, after the last fault, in which all has to be done


@dataclass(frozen=True)
class Plan:
    """How much is done, and how often something goes wrong."""

    workers: int
    nets: int
    seconds: float  #: of faults
    lease: float
    shortest: float  #: seconds that a task takes
    longest: float
    pause: float  #: seconds between two faults, on average


SHORT = Plan(workers=40, nets=4, seconds=10.0, lease=2.0, shortest=0.2, longest=1.6, pause=0.1)
LONG = Plan(workers=200, nets=8, seconds=120.0, lease=5.0, shortest=1.0, longest=4.0, pause=0.5)


class Server:
    """The engine's process, again and again on one port."""

    def __init__(self, db: Path, nets: Networks, stack: ExitStack) -> None:
        self._db, self._options, self._stack = db, nets.serve_options, stack
        self.away: list[Absence] = []
        self.process, self.url = self._start()

    def _start(self, *more: str) -> tuple[subprocess.Popen[str], str]:
        process, told = self._stack.enter_context(serving(self._db, *self._options, *more, workers=0))
        return process, str(told["url"])

    def restart(self, how: signal.Signals) -> None:
        """End it, by force or by a word, and have another one."""
        began = time.time()
        self.process.send_signal(how)
        self.process.wait(30)
        self.process, _ = self._start("--port", str(port_of(self.url)))
        self.away.append(Absence(began, time.time(), is_end=True))

    def stand_still(self, seconds: float) -> None:
        """Hold it up."""
        began = time.time()
        self.process.send_signal(signal.SIGSTOP)
        time.sleep(seconds)
        self.process.send_signal(signal.SIGCONT)
        self.away.append(Absence(began, time.time(), is_end=False))


class Trouble:
    """Draws what goes wrong, does it, and mends it when its time is over."""

    def __init__(self, plan: Plan, dice: random.Random, server: Server, crowds: list[Place], journal: Path) -> None:
        self._plan, self._dice, self._server, self._crowds, self._journal = plan, dice, server, crowds, journal
        self._born = 0
        self._living: dict[str, tuple[psutil.Process, Place]] = {}
        self._mends: list[tuple[float, Callable[[], None]]] = []
        self._cut = set[Network]()
        self.losses: list[Loss] = []
        self.met: Counter[str] = Counter()
        for number in range(plan.workers):
            self._begin(crowds[number % len(crowds)])

    def go_on_for(self, seconds: float) -> None:
        """Have things go wrong for so long, then mend all of them."""
        over = time.monotonic() + seconds
        # Each kind at least once, however short this is; what ends in no time more often than what takes some.
        kinds = [kind for kind, odds in self._faults.items() for _ in range(5 if odds > 1 else 1)]
        if not IS_LONG:  # each takes seconds
            kinds.remove(self._dice.choice([Trouble._kill_server, Trouble._restart_server]))
        first = self._dice.sample(kinds, len(kinds))
        while time.monotonic() < over or first:
            fault = first.pop() if first else self._dice.choices([*self._faults], [*self._faults.values()])[0]
            self.met[fault.__name__.strip("_").replace("_", " ")] += 1
            fault(self)
            self._mend_until(time.monotonic() + self._dice.expovariate(1 / self._plan.pause))
        self._mend_until(float("inf"))

    # ---- what goes wrong -------------------------------------------------------------------

    def _kill_worker(self) -> None:
        name, process, place = self._some_worker()
        process.kill()
        self._replace(name, place, "killed")

    def _kill_heart(self) -> None:
        _, process, _ = self._some_worker()
        if (heart := heart_of(process)) is not None:
            with suppress(psutil.NoSuchProcess):
                heart.kill()

    def _kill_both(self) -> None:
        name, process, place = self._some_worker()
        for one in filter(None, (heart_of(process), process)):
            with suppress(psutil.NoSuchProcess):
                one.kill()
        self._replace(name, place, "killed with its heart")

    def _pause_worker(self) -> None:
        name, process, _ = self._some_worker()
        self._pause(name, [process])

    def _pause_both(self) -> None:
        name, process, _ = self._some_worker()
        self._pause(name, [process, *filter(None, [heart_of(process)])])

    def _cut_off(self) -> None:
        self._separate(Network.cut, time.time())

    def _deafen(self) -> None:
        # The beat that is next is still heard, the one after that needs a connection of its own.
        self._separate(Network.deafen, time.time() + self._plan.lease / 3)

    def _kill_server(self) -> None:
        self._server.restart(signal.SIGKILL)
        self._let_them_come_back()

    def _restart_server(self) -> None:
        self._server.restart(signal.SIGTERM)
        self._let_them_come_back()

    def _pause_server(self) -> None:
        self._server.stand_still(1.5 * self._plan.lease)

    _faults = {
        _kill_worker: 6, _kill_heart: 4, _kill_both: 6, _pause_worker: 4, _pause_both: 4, _cut_off: 2, _deafen: 2,
        _kill_server: 0.3, _restart_server: 0.3, _pause_server: 0.2,
    }  # fmt: skip

    def _let_them_come_back(self) -> None:
        self._mend_until(time.monotonic() + 1.0)

    # ---- how ---------------------------------------------------------------------------------

    def _some_worker(self) -> tuple[str, psutil.Process, Place]:
        name = self._dice.choice([*self._living])
        return name, *self._living[name]

    def _begin(self, place: Place) -> None:
        self._born += 1
        crowd, network = place
        name, plan = f"w{self._born}", self._plan
        post = Post(
            network.way, PROJECT, STAGES[self._born % len(STAGES)], name, f"n{self._born % NICKNAMES}",
            str(self._journal), plan.shortest, plan.longest, prefetch=self._born % 5 // 4,
        )  # fmt: skip
        self._living[name] = (crowd.begin(post), place)

    def _replace(self, name: str, place: Place, what: str) -> None:
        self.losses.append(Loss(name, what, time.time()))
        del self._living[name]
        self._begin(place)

    def _pause(self, name: str, processes: list[psutil.Process]) -> None:
        """Hold *processes* of a worker up for longer than its lease; it is spared until it goes on."""
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.suspend()
        loss, place = Loss(name, f"{len(processes)} paused", time.time()), self._living.pop(name)

        def go_on() -> None:
            for process in processes:
                with suppress(psutil.NoSuchProcess):
                    process.resume()
            loss.until = time.time()
            self._living[name] = place

        self.losses.append(loss)
        self._mend_later(self._dice.uniform(1.2, 2) * self._plan.lease, go_on)

    def _separate(self, how: Callable[[Network], None], since: float) -> None:
        """Cut a network off, for a moment or for longer than the leases of those in it."""
        whole = [network for _, network in self._crowds if network not in self._cut]
        if not whole:
            return
        network = self._dice.choice(whole)
        how(network)
        self._cut.add(network)
        losses = [Loss(name, how.__name__, since) for name, (_, place) in self._living.items() if place[1] is network]

        def mend() -> None:
            network.mend()
            self._cut.discard(network)
            for loss in losses:
                loss.until = time.time()

        self.losses += losses
        self._mend_later(self._dice.choice([0.3, 2.0]) * self._plan.lease, mend)

    def _mend_later(self, seconds: float, mend: Callable[[], None]) -> None:
        self._mends.append((time.monotonic() + seconds, mend))

    def _mend_until(self, moment: float) -> None:
        """Mend what is due until *moment*; all there is, if that is never."""
        while time.monotonic() < moment and (self._mends or moment < float("inf")):
            for due in [mend for mend in self._mends if mend[0] <= time.monotonic()]:
                self._mends.remove(due)
                due[1]()
            time.sleep(0.02)


# ---- the test --------------------------------------------------------------------------------

# The short form tries the one that shows more.
KINDS = in_form(short=[Namespaces if namespaces_are_permitted() else Proxies], long=[Namespaces, Proxies])


@pytest.mark.timeout(in_form(short=180, long=0))
@pytest.mark.parametrize("kind", KINDS)
def test_workers_lose_nothing_whatever_is_killed_paused_or_cut_off(
    tmp_path: Path, dice: random.Random, seed: int, kind: type[Namespaces] | type[Proxies]
) -> None:
    if kind is Namespaces and not namespaces_are_permitted():
        pytest.skip("networks of one's own take root on Linux")
    plan = in_form(short=SHORT, long=LONG)
    db, journal = tmp_path / "work.db", tmp_path / "journal"
    journal.touch()
    about = "" if kind is Namespaces else " (by proxies)"
    with recorded(f"HTTP workers killed, paused, cut off{about}", seed=seed, is_long=IS_LONG) as record:
        with at_work(plan, kind, db, journal, dice) as (server, trouble):
            with filling(server.url, plan):
                trouble.go_on_for(plan.seconds)
            record.stuck = asyncio.run(left_of(server.url))
        print(", ".join(f"{n} {what}" for what, n in sorted(trouble.met.items())))
        record.runs = trouble.met.total()
        refused = take_stock(record, db, [*told_in(journal)])
        found = reclaims(db, plan.lease, trouble.losses, server.away)
        record.figures = {
            "workers": plan.workers, "lease_s": plan.lease, "leases": found.leases, "refused": refused,
            "leases_lost": len(found.waits), "reclaim_p50_s": round(found.within(0.5), 2),
            "reclaim_p99_s": round(found.within(0.99), 2), "reclaim_worst_s": round(found.waits[-1], 2),
            "expired_without_cause": found.unexplained,
        }  # fmt: skip
        assert found.within(0.99) <= plan.lease + in_form(short=5.0, long=1.0)
        check_survivor(db)


@contextmanager
def at_work(
    plan: Plan, kind: type[Namespaces] | type[Proxies], db: Path, journal: Path, dice: random.Random
) -> Iterator[tuple[Server, Trouble]]:
    """A server with jobs, and all workers at work on them."""
    with ExitStack() as stack:
        nets = stack.enter_context(networks(kind, plan.nets))
        server = Server(db, nets, stack)
        asyncio.run(declare(server.url, plan))
        crowds: list[Place] = []
        for number, network in enumerate(nets.open(server.url)):
            crowds.append((Crowd(db.parent / f"workers-{number}.log", network.command), network))
            stack.callback(crowds[-1][0].end)
        yield server, Trouble(plan, dice, server, crowds, journal)


async def declare(url: str, plan: Plan) -> None:
    """Declare the project, which forgives no failure."""
    client = Client(url)
    stages = [StageSpec(name=name, kind="lease", lease_seconds=plan.lease, retries=0) for name in STAGES]
    await client.declare_project(ProjectSpec(name=PROJECT, stages=stages))
    await client.run_project(PROJECT)
    await client.close()


@contextmanager
def filling(url: str, plan: Plan) -> Iterator[None]:
    """Meanwhile, have enough for all to do."""
    over = threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(fill(url, plan, over)))
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


async def fill(url: str, plan: Plan, over: threading.Event) -> None:
    """Add jobs whenever there are few, each once however often that has to be asked for."""
    client, first = Client(url), 0
    while not over.is_set():
        keys = [f"key {number}" for number in range(first, first + plan.workers)]
        block = pack([pack_json(key, what="an item") for key in keys])
        with suppress(DcengineError):  # there is no engine just now
            if (await client.project(PROJECT)).open < 2 * plan.workers:
                await client.add_jobs(ItemsSubmission(project=PROJECT, blocks=[block], count=len(keys), keys=keys))
                first += plan.workers
                continue
        await asyncio.sleep(0.2)
    await client.close()


async def left_of(url: str) -> int:
    """Wait until all jobs have ended; return how many have not, or badly."""
    client, over = Client(url), time.monotonic() + FINAL_PATIENCE
    while (status := await client.project(PROJECT, wait=1.0)).open and time.monotonic() < over:
        pass
    await client.close()
    return sum(n for stage in status.stages for state, n in stage.counts.items() if state != "succeeded")
