"""``dcengine serve``: an engine of its own, until somebody stops it."""

from __future__ import annotations

import gc
import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .. import logs
from ..config import SEPARATOR, SETTINGS, Settings, load, shown
from ..open_files import make_room
from .choosing import told_plainly
from .showing import show_json, show_line, show_note

if TYPE_CHECKING:
    from ..embed import EmbeddedEngine


GARBAGE = (100_000, 50, 50)  #: thresholds of `gc`: objects that come and go here are seldom in circles
GARBAGE_SECONDS = 10.0  #: between two looks for all garbage, however few objects it has: each may hold megabytes
GARBAGE_SHARE = 0.001  #: of the time that such looks may take
TURN_SECONDS = (
    0.001  #: after which a thread that computes lets go of Python's lock: the store's thread needs it briefly
)


class _Stopped(BaseException):
    """Somebody asked the process to end."""


def _option(setting: str, metavar: str | None = None) -> Any:
    flag = f"--{setting.replace('_', '-')}"
    return typer.Option(flag, help=SETTINGS[setting].help, metavar=metavar, show_default=False)


def serve(
    host: Annotated[str | None, _option("host")] = None,
    port: Annotated[int | None, _option("port", "8787")] = None,
    db: Annotated[str | None, _option("db", "FILE")] = None,
    workers: Annotated[int | None, _option("workers", "N")] = None,
    worker_tags: Annotated[str | None, _option("worker_tags", "'cpu;gpu,site=lab'")] = None,
    scheduler: Annotated[str | None, _option("scheduler", "tcp://...")] = None,
    cluster_host: Annotated[str | None, _option("cluster_host", "ADDRESS")] = None,
    processes: Annotated[
        bool | None,
        typer.Option(
            "--processes/--threads",
            help="Run functions in processes, or in threads, which cannot be interrupted.",
            show_default=False,
        ),
    ] = None,
    blobs: Annotated[str | None, _option("blobs", "PLACE")] = None,
    idle_exit: Annotated[float | None, _option("idle_exit", "SECONDS")] = None,
    tls_cert: Annotated[str | None, _option("tls_cert", "FILE")] = None,
    tls_key: Annotated[str | None, _option("tls_key", "FILE")] = None,
    insecure: Annotated[bool, _option("insecure")] = False,
    allow_host: Annotated[list[str] | None, _option("allow_host", "NAME")] = None,
    trusted_proxy: Annotated[list[str] | None, _option("trusted_proxy", "ADDRESS")] = None,
    prefix: Annotated[str | None, _option("prefix", "/PATH")] = None,
    max_connections: Annotated[int | None, _option("max_connections", "N")] = None,
    open_metrics: Annotated[bool, _option("open_metrics")] = False,
    volunteer_rate: Annotated[float | None, _option("volunteer_rate", "N")] = None,
    volunteer_body_limit: Annotated[int | None, _option("volunteer_body_limit", "BYTES")] = None,
    protocol_port: Annotated[list[str] | None, _option("protocol_port", "p2p=9000")] = None,
    private_webhooks: Annotated[bool, _option("private_webhooks")] = False,
    kernels: Annotated[
        bool | None,
        typer.Option("--kernels/--no-kernels", help="Be a Jupyter server too, or not.", show_default=False),
    ] = None,
    files: Annotated[str | None, _option("files", "PLACE")] = None,
    kernel_idle: Annotated[float | None, _option("kernel_idle", "SECONDS")] = None,
    kernel_tags: Annotated[str | None, _option("kernel_tags", "'gpu;site=lab'")] = None,
    log_format: Annotated[str | None, _option("log_format", "text|json")] = None,
    log_level: Annotated[str | None, _option("log_level", "debug|info|warning|error")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON line once it is ready.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks and logs.")] = False,
) -> None:
    """Serve a file: keep its jobs, start workers, answer over HTTP, until Ctrl-C."""
    if scheduler and workers:
        raise typer.BadParameter("--workers starts a cluster of its own, --scheduler joins one; give one of them")
    with told_plainly(debug=debug):
        given: dict[str, Any] = {
            "host": host,
            "port": port,
            "db": db,
            "workers": workers,
            "worker_tags": _entries(worker_tags),
            "scheduler": scheduler,
            "cluster_host": cluster_host,
            "processes": processes,
            "blobs": blobs,
            "idle_exit": idle_exit,
            "tls_cert": tls_cert,
            "tls_key": tls_key,
            "insecure": insecure or None,
            "allow_host": allow_host or None,
            "trusted_proxy": trusted_proxy or None,
            "prefix": prefix,
            "max_connections": max_connections,
            "open_metrics": open_metrics or None,
            "volunteer_rate": volunteer_rate,
            "volunteer_body_limit": volunteer_body_limit,
            "protocol_port": protocol_port or None,
            "private_webhooks": private_webhooks or None,
            "kernels": kernels,
            "files": files,
            "kernel_idle": kernel_idle,
            "kernel_tags": _entries(kernel_tags),
            "log_format": log_format,
            "log_level": log_level or ("info" if debug else None),
        }
        settings = load(**given)
        logs.configure(settings.log_format, settings.log_level)
        make_room(settings.max_connections)
        engine = _engine(settings)
        engine.shown_settings = shown(**given)
        _run(engine, as_json=as_json)


def _entries(text: str | None) -> list[str] | None:
    """Return the entries of a list as it stands on the command line."""
    return [part.strip() for part in text.split(SEPARATOR)] if text else None


def _engine(settings: Settings) -> EmbeddedEngine:
    from ..embed import EmbeddedEngine  # late: it loads Dask
    from ..loops import quick_loop

    given = {} if settings.workers is None else {"workers": settings.workers}
    engine = EmbeddedEngine(
        db=settings.db,
        worker_tags=settings.worker_tags,
        scheduler=settings.scheduler,
        processes=settings.processes,
        host=settings.host,
        port=settings.port,
        cluster_host=settings.cluster_host,
        cluster_share=settings.cluster_share,
        pilot_idle=settings.pilot_idle,
        worker_lease=settings.worker_lease,
        grace=settings.grace,
        output_limit=settings.output_limit,
        session_idle=settings.session_idle,
        worker_values=settings.worker_values,
        blobs=settings.blobs,
        idle_exit=settings.idle_exit,
        allow_hosts=settings.allow_host,
        trusted_proxies=settings.trusted_proxy,
        prefix=settings.prefix,
        max_connections=settings.max_connections,
        open_metrics=settings.open_metrics,
        volunteer_rate=settings.volunteer_rate,
        volunteer_body_limit=settings.volunteer_body_limit,
        protocol_ports=settings.protocol_port,
        private_webhooks=settings.private_webhooks,
        kernels=settings.kernels,
        files=settings.files,
        kernel_idle=settings.kernel_idle or None,
        kernel_tags=settings.kernel_tags,
        tls_cert=settings.tls_cert,
        tls_key=settings.tls_key,
        insecure=settings.insecure,
        **given,
    )
    engine.is_program = True
    if settings.processes:  # no user code here that might fork
        engine.new_loop = quick_loop
    return engine


def _run(engine: EmbeddedEngine, *, as_json: bool) -> None:
    """Start *engine*, say where it is, and wait for its end."""
    with _stoppable():
        try:
            engine.start()
            logs.take_over("distributed", "dask", "tornado")  # which have just been loaded
            _settle_in()
            _announce(engine, as_json=as_json)
            _tidy_until(engine.finished)
            if engine.failure is not None:
                raise engine.failure
            show_note(f"the engine of {engine.db} has ended")
        except _Stopped:
            show_note(f"stopping the engine of {engine.db}; its jobs are kept")
        finally:
            engine.close()


def _settle_in() -> None:
    """Have this process, which is ours alone, look for garbage seldom, and its threads take turns soon.

    Measured with leases over HTTP: the one saves a fifth of the processor, the other gets a tenth more done.
    """
    gc.collect()
    gc.freeze()  # what is loaded by now stays to the end
    gc.set_threshold(*GARBAGE)
    sys.setswitchinterval(TURN_SECONDS)


def _tidy_until(finished: threading.Event) -> None:
    """Wait until all has *finished*; meanwhile put garbage away.

    A circle of few objects may hold megabytes, and counts of objects would find it after days.
    """
    pause = GARBAGE_SECONDS
    while not finished.wait(pause):
        started = time.thread_time()  # not what others took of the processor meanwhile
        gc.collect()
        pause = max(GARBAGE_SECONDS, (time.thread_time() - started) / GARBAGE_SHARE)


@contextmanager
def _stoppable() -> Iterator[None]:
    """Turn the first SIGINT, SIGTERM or SIGHUP into `_Stopped`; later ones do not disturb the closing."""

    def stop(number: int, frame: object) -> None:
        for each in numbers:
            signal.signal(each, signal.SIG_IGN)
        raise _Stopped

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    # What is ignored stays so: nohup means it.
    wanted = [number for number in numbers if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, stop) for number in wanted}
    try:
        yield
    except _Stopped:
        pass  # it came while the engine closed
    finally:
        for number, action in before.items():
            signal.signal(number, action)


def _announce(engine: EmbeddedEngine, *, as_json: bool) -> None:
    if as_json:
        show_json(
            {
                "url": engine.url,
                "token": engine.token,
                "scheduler": engine.scheduler_address,
                "db": str(engine.db),
                "pid": os.getpid(),
                **({"ports": engine.ports} if engine.ports else {}),
            }
        )
        return
    show_line(f"dcengine serves {engine.db} at")
    show_line(f"  {engine.url}", style="bold")
    if engine.answers_front_ends:
        address, _, token = engine.url.partition("/?token=")
        show_line("paste that address into VS Code or PyCharm as a Jupyter server; JupyterLab with kernels from here:")
        show_line(f"  JUPYTER_GATEWAY_AUTH_TOKEN={token} jupyter lab --gateway-url {shlex.quote(address)}")
    show_line("bring a worker:")
    show_line(f"  dcengine join {shlex.quote(engine.url)} --tags gpu --nickname alice")
    for protocol, address in engine.ports.items():
        show_line(f"old workers and clients speak {protocol} at {address}, without a token")
    show_line("stop it with Ctrl-C; its jobs are kept")
