"""``dcengine doctor``: looks at the installation, the file, the port, the engine and the workers, and says what to do.

It starts no engine and changes no file.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
import os
import socket
import sqlite3
import sys
import time
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, NamedTuple
from urllib.parse import urlsplit

import typer
from packaging.requirements import Requirement

from .._version import __version__
from ..config import SETTINGS, Settings, load
from ..errors import DcengineError, StoreError, WorkloadBroken
from ..owner import Owner, bare, find_owner
from ..plain import clean
from ..verbs import EngineStatus, WorkerStatus
from .choosing import Json, told
from .showing import show_json, show_line

SAFE_SQLITE = (3, 51, 3)  #: before it, two connections that write could lose a part of the log
VIOLATIONS_LIMIT = 50  #: of a file's history that are shown
GROUPS = {"command": "dcengine.commands", "endpoint": "dcengine.endpoints", "protocol": "dcengine.protocols"}
MARKS = {"ok": ("ok   ", "green"), "note": ("note ", "yellow"), "wrong": ("WRONG", "red")}


class Finding(NamedTuple):
    """What one check found, and what to do about it."""

    verdict: str  #: ok, note, wrong
    check: str
    found: str
    advice: str = ""


@told
def doctor(
    db: Annotated[str | None, typer.Option("--db", help=SETTINGS["db"].help, show_default=False)] = None,
    url: Annotated[str | None, typer.Option("--url", help=SETTINGS["url"].help, show_default=False)] = None,
    token: Annotated[str | None, typer.Option("--token", help=SETTINGS["token"].help, show_default=False)] = None,
    port: Annotated[int | None, typer.Option("--port", help="The port to look at.", show_default=False)] = None,
    with_history: Annotated[
        bool, typer.Option("--history", help="Rebuild the file from its events and compare; slow for a large one.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Check the installation, the file, the port, the engine and the workers, and say what to do."""
    settings = load(db=db, url=url, token=token, port=port)
    findings = list(examine(settings, with_history=with_history))
    if as_json:
        show_json([finding._asdict() for finding in findings])
    else:
        for finding in findings:
            _show(finding)
    if any(finding.verdict == "wrong" for finding in findings):
        raise typer.Exit(1)


def _show(finding: Finding) -> None:
    mark, style = MARKS[finding.verdict]
    show_line(f"{mark} {finding.check}: {finding.found}", style=style if finding.verdict != "ok" else "")
    if finding.advice:
        show_line(f"      {finding.advice}")


def examine(settings: Settings, *, with_history: bool = False) -> Iterator[Finding]:
    """Yield what each check finds, from the ground up."""
    yield _python()
    yield from packages()
    yield _sqlite()
    yield kernel()
    yield from plug_ins()
    db = Path(settings.db)
    yield from database(db)
    if with_history:
        yield from history(db)
    owner = find_owner(db)
    yield ownership(db, owner)
    url, token = settings.url, settings.token
    if url is None and owner is not None:
        url, token = owner.url, owner.token
    yield port_of(settings, url or "")
    if url:
        yield from asyncio.run(engine(url, token))
    else:
        yield Finding("ok", "engine", "none runs for this file; the next submission starts one")


# ---- the installation ----------------------------------------------------------------------


def _python() -> Finding:
    version = sys.version.partition(" ")[0]
    return Finding("ok", "Python", f"{version} at {sys.executable}")


def packages() -> Iterator[Finding]:
    """Yield whether what dcengine needs is installed, and new enough."""
    try:
        needed = importlib.metadata.requires("dcengine") or []
    except importlib.metadata.PackageNotFoundError:
        yield Finding("note", "dcengine", f"{__version__}, from its source tree", "install it: pip install -e .")
        return
    yield Finding("ok", "dcengine", __version__)
    for text in needed:
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield _package(requirement)


def _package(requirement: Requirement) -> Finding:
    advice = f"pip install '{requirement.name}{requirement.specifier}'"
    try:
        version = importlib.metadata.version(requirement.name)
    except importlib.metadata.PackageNotFoundError:
        return Finding("wrong", requirement.name, "not installed", advice)
    if not requirement.specifier.contains(version, prereleases=True):
        return Finding("wrong", requirement.name, f"{version}, needed is {requirement.specifier}", advice)
    return Finding("ok", requirement.name, version)


def _sqlite() -> Finding:
    version = sqlite3.sqlite_version
    if sqlite3.sqlite_version_info < SAFE_SQLITE:
        safe = ".".join(map(str, SAFE_SQLITE))
        return Finding(
            "note",
            "SQLite",
            version,
            f"before {safe} a second program that writes to the file could damage it: let none do so meanwhile",
        )
    return Finding("ok", "SQLite", version)


def kernel() -> Finding:
    """Return whether Jupyter of this environment finds our kernel, and whether that can start."""
    from jupyter_core.paths import jupyter_path  # late: no other command needs it

    files = (Path(folder, "dcengine", "kernel.json") for folder in jupyter_path("kernels"))
    spec = next((file for file in files if file.is_file()), None)
    if spec is None:
        return Finding("note", "kernel", "Jupyter does not know it", "dcengine kernel install --user")
    try:
        python = Path(json.loads(spec.read_text())["argv"][0])
    except (OSError, ValueError, LookupError, TypeError) as error:
        return Finding("wrong", "kernel", f"{spec} cannot be read: {error}", "dcengine kernel install --user")
    if python.is_absolute() and not python.exists():
        return Finding("wrong", "kernel", f"{spec} starts {python}, which is gone", "dcengine kernel install --user")
    return Finding("ok", "kernel", f"in {spec.parent}")


def plug_ins() -> Iterator[Finding]:
    """Yield which plug-ins are installed, and which of them cannot be used."""
    from .. import workloads  # late: every other command loads one of them at most

    installed = [
        *(f"workload {name}" for name in workloads.names()),
        *(f"{kind} {entry.name}" for kind, group in GROUPS.items() for entry in entry_points(group=group)),
    ]
    yield Finding("ok", "plug-ins", ", ".join(sorted(installed)) or "none")
    for name in workloads.names():
        try:
            workloads.load(name)
        except WorkloadBroken as error:
            yield Finding("wrong", f"workload {name}", f"of {error.package}: {error.problem}", error.way_out)
    for kind, group in GROUPS.items():
        for entry in entry_points(group=group):
            try:
                entry.load()
            except Exception as error:  # a package of somebody else's
                package = entry.dist.name if entry.dist else entry.value
                problem = f"of {package}: {type(error).__name__}: {error}"
                yield Finding("wrong", f"{kind} {entry.name}", problem, f"install {package} anew")


# ---- the file ------------------------------------------------------------------------------


def database(db: Path) -> Iterator[Finding]:
    """Yield whether *db* can be used; it is opened for reading only."""
    from ..store import opening  # late: every other command does without

    check = f"file {db}"
    try:
        opening.refuse_network_file_system(db)
    except StoreError as error:
        yield Finding("wrong", check, "on a network file system", str(error))
        return
    if not db.exists():
        if not os.access(db.parent, os.W_OK):
            yield Finding("wrong", check, f"cannot be made in {db.parent}", "choose a folder that you may write: --db")
        else:
            yield Finding("ok", check, "not there yet; the first engine makes it")
        return
    if not os.access(db, os.R_OK | os.W_OK):
        yield Finding("wrong", check, "may not be read and written by you", "chmod or chown it, or choose another --db")
        return
    yield _integrity(db, check)
    yield from _log(db)
    free = os.statvfs(db.parent)
    megabytes = free.f_bavail * free.f_frsize >> 20
    if megabytes < 100:
        yield Finding("wrong", "disk", f"{megabytes:,} MB free", "make room: with a full disk nothing can be stored")
    else:
        yield Finding("ok", "disk", f"{megabytes:,} MB free")


def _log(db: Path) -> Iterator[Finding]:
    """Yield whether somebody keeps the log of *db* from being emptied, and who that may be."""
    from ..store.log import LONG_BYTES, size_of_log  # late: every other command does without

    size = size_of_log(db)
    if size >= LONG_BYTES:
        found = f"{size >> 20:,} MiB, since a program reads an old state of the file. It is open in {_users_of(db)}"
        yield Finding("wrong", f"log of {db}", found, "end the transaction of whichever is not the engine")


def _users_of(db: Path) -> str:
    """Return the processes that have *db* open, as far as this user may see them."""
    import psutil  # late: every other check does without

    path, users = str(db.resolve()), list[str]()
    for process in psutil.process_iter():
        try:
            if any(file.path == path for file in process.open_files()):
                users.append(f"{process.pid} ({clean(process.name())})")
        except psutil.Error:
            pass
    return ", ".join(users) or "no process that you may look into"


def history(db: Path) -> Iterator[Finding]:
    """Yield whether the tables of *db* are what its events tell."""
    from ..store.checking import check_history  # late: every other command does without

    check = f"history of {db}"
    try:
        violations = check_history(db)
    except StoreError as error:
        yield Finding("wrong", check, "cannot be read", str(error))
        return
    for violation in violations[:VIOLATIONS_LIMIT]:
        yield Finding("wrong", check, violation)
    if len(violations) > VIOLATIONS_LIMIT:
        yield Finding("wrong", check, f"and {len(violations) - VIOLATIONS_LIMIT:,} more like these")
    if violations:
        yield Finding(
            "note", check, "this should not happen", "keep a copy of the file, and tell us what it went through"
        )
    else:
        yield Finding("ok", check, "tables, counters and credit are what the events tell")


def _integrity(db: Path, check: str) -> Finding:
    from ..store import opening  # late: every other command does without

    try:
        connection = sqlite3.connect(f"{db.resolve().as_uri()}?{_reading(db)}", uri=True, timeout=5.0)
        try:
            (application,) = connection.execute("PRAGMA application_id").fetchone()
            (schema,) = connection.execute("PRAGMA user_version").fetchone()
            (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
            if tables and application != opening.APPLICATION_ID:
                return Finding("wrong", check, "the database of another program", "choose another file with --db")
            if schema > opening.newest_version():
                return Finding("wrong", check, f"schema {schema} is of a later dcengine", "upgrade dcengine")
            (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        finally:
            connection.close()
    except sqlite3.Error as error:
        verdict = str(error)
    if verdict != "ok":
        return Finding("wrong", check, f"damaged: {verdict}", f"restore a backup, or: sqlite3 {db} .recover")
    return Finding("ok", check, f"whole, {_size(db)}, schema {schema}")


def _size(db: Path) -> str:
    """Return how much *db* takes on the disk; its log counts, since it holds jobs too."""
    log = Path(f"{db}-wal")
    in_log = log.stat().st_size if log.exists() else 0
    total = f"{db.stat().st_size + in_log:,} bytes"
    return f"{total} ({in_log:,} of them in its log)" if in_log else total


def _reading(db: Path) -> str:
    """Return how to open *db* so that no file appears beside it: without a log nobody has it open."""
    return "mode=ro" if Path(f"{db}-wal").exists() else "immutable=1"


def ownership(db: Path, owner: Owner | None) -> Finding:
    """Return whether an engine owns *db*."""
    if owner is None:
        return Finding("ok", "owner", f"no engine has {db} open")
    if not owner.url:
        return Finding("note", "owner", f"process {owner.pid} is starting or stopping", "ask again in some seconds")
    return Finding("ok", "owner", f"process {owner.pid}, at {bare(owner.url)}")


# ---- the port, the engine, the workers -----------------------------------------------------


def port_of(settings: Settings, url: str) -> Finding:
    """Return whether an engine could listen where the settings say."""
    check = f"port {settings.port}"
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", settings.port))
        except PermissionError:
            return Finding("wrong", check, "is for the system's administrator", "choose one above 1023 with --port")
        except OSError:
            if url and urlsplit(url).port == settings.port:
                return Finding("ok", check, "the engine's own")
            advice = "if that is not an engine of yours, choose another with --port; 0 finds a free one"
            return Finding("note", check, "another program listens there", advice)
    return Finding("ok", check, "free")


async def engine(url: str, token: str | None) -> list[Finding]:
    """Return whether the engine at *url* answers, and how its workers are."""
    from ..client import Client  # late: every other command does without

    client = Client(url, token)
    check = f"engine at {bare(url)}"
    try:
        await client.status()  # the first question also opens the connection
        began = time.perf_counter()
        status = await client.status()
        milliseconds = (time.perf_counter() - began) * 1000
        workers = await client.workers()
    except DcengineError as error:
        return [Finding("wrong", check, "does not answer as it should", str(error))]
    finally:
        await client.close()
    findings = [Finding("ok", check, f"answers in {milliseconds:.1f} ms")]
    if status.version != __version__:
        advice = "install the same version here and there"
        findings.append(Finding("note", check, f"is dcengine {status.version}, here is {__version__}", advice))
    return [*findings, *cluster(status, workers)]


def cluster(status: EngineStatus, workers: list[WorkerStatus]) -> Iterator[Finding]:
    """Yield whether somebody is there to do the work."""
    unfit = [worker for worker in workers if worker.state == "unfit"]
    for worker in unfit:
        advice = f"make its environment like the engine's: dcengine {status.version}, the same Python"
        yield Finding("wrong", f"worker {worker.name}", worker.reason or "cannot be used", advice)
    ready = [worker for worker in workers if worker.state == "ready"]
    if ready:
        slots = sum(worker.slots for worker in ready)
        yield Finding("ok", "workers", f"{len(ready)} ready, {slots} slots, scheduler {status.scheduler}")
    elif len(workers) > len(unfit):
        yield Finding("note", "workers", "starting", "ask again in some seconds")
    else:
        waiting = status.counts.get("queued", 0)
        advice = "bring one: dcengine join URL; or start the engine with --workers 2"
        yield Finding("wrong" if waiting else "note", "workers", f"none, and {waiting:,} jobs wait", advice)
