"""What every benchmark prints: the machine, a table for people, and with ``--json`` one object as the last line."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sqlite3
from collections.abc import Sequence
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import rich.table
from rich.console import Console

import dcengine

Row = Sequence[str]


class Table(NamedTuple):
    """Figures for people."""

    title: str
    headings: Row
    rows: Sequence[Row]


def arguments(description: str) -> argparse.Namespace:
    """Return what the command line asks for: ``quick`` and ``json``."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="rough figures in less than a minute")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    return parser.parse_args()


def circumstances(*packages: str) -> dict[str, Any]:
    """Return when, where and with which versions of *packages* this runs."""
    return {
        "date": datetime.now().astimezone().isoformat(timespec="seconds"),
        "machine": {
            "cores": _cores(),
            "processor": _processor(),
            "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
            "system": f"{platform.system()} {platform.release()}",
            "load": round(os.getloadavg()[0], 2),
        },
        "versions": {
            "dcengine": dcengine.__version__,
            "python": platform.python_version(),
            "sqlite": sqlite3.sqlite_version,
            **{package: installed(package) for package in packages},
        },
    }


def installed(package: str) -> str | None:
    """Return the version of *package*, None where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def show(tables: Sequence[Table], result: dict[str, Any], *, as_json: bool) -> None:
    """Print *tables* for people, with the circumstances and notes of *result*, which *as_json* prints too."""
    machine, versions = result["machine"], result["versions"]
    console = Console(width=None if os.isatty(1) else 120, highlight=False)
    console.print(
        f"{result['date'][:16].replace('T', ' ')}, {machine['cores']} cores ({machine['processor']}), "
        f"{machine['memory_gib']} GiB, {machine['system']}, load {machine['load']}"
    )
    console.print(", ".join(f"{name} {number or 'not installed'}" for name, number in versions.items()))
    for table in tables:
        drawn = rich.table.Table(*table.headings, title=table.title, title_justify="left")
        for column in drawn.columns[1:]:
            column.justify = "right"
        for row in table.rows:
            drawn.add_row(*row)
        console.print(drawn)
    for note in result["notes"]:
        console.print(f"- {note}", soft_wrap=True)
    if as_json:
        print(json.dumps(result))


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except FileNotFoundError:  # macOS
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
