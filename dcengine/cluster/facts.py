"""What this machine offers, as tags: some found at the start, others only when somebody mentions them."""

from __future__ import annotations

import os
import platform
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from ..tags import LOOKED_UP

PROGRAMS = (
    "apptainer", "blender", "conda", "docker", "ffmpeg", "gcc", "git", "make", "node", "pandoc", "podman", "uv",
)  # fmt: skip
FOUND_AT_START = frozenset(f"exe.{name}" for name in PROGRAMS)  #: of the names that are looked up on demand
UUID_LENGTH = len("GPU-01234567")  #: what of one is shown: enough to tell GPUs apart
GPU_SECONDS = 3.0  #: what a hanging driver may cost at the start of a worker
_ARCHITECTURES = {"amd64": "x86_64", "aarch64": "arm64"}  #: one name for each, whatever the system calls it


def discover() -> dict[str, str | None]:
    """Return the tags of this machine, within the limits set for this process."""
    tags: dict[str, str | None] = {
        "cpu.count": str(cpu_count()),
        "os": platform.system().lower(),
        "arch": _ARCHITECTURES.get(platform.machine().lower(), platform.machine().lower()),
        "python": platform.python_version(),
        "host": socket.gethostname(),
    }
    memory = memory_bytes()
    if memory is not None:
        tags["memory"] = _gibibytes(memory)
    tags.update(_gpu_tags())
    tags.update({f"exe.{name}": None for name in PROGRAMS if shutil.which(name)})
    return tags


def look_up(names: Iterable[str]) -> dict[str, str | None]:
    """Return those of *names* that are there: ``exe.`` programs, ``pkg.`` packages with their versions.

    A package is named as its distribution (scikit-learn) or as it is imported (sklearn). Nothing is run or imported.
    """
    imported = cache(metadata.packages_distributions)  # slow, and true only as long as nothing is installed
    found: dict[str, str | None] = {}
    for name in filter(LOOKED_UP.fullmatch, names):
        kind, _, what = name.partition(".")
        if kind == "exe":
            if shutil.which(what):
                found[name] = None
        elif version := _package_version(what, imported):
            found[name] = version
    return found


def _package_version(name: str, imported: Callable[[], Mapping[str, list[str]]]) -> str | None:
    """Return the version of the package that is distributed, or *imported*, as *name*; None if there is none."""
    with suppress(Exception):  # metadata that somebody else wrote, in whatever state
        try:
            found = metadata.version(name)
        except metadata.PackageNotFoundError:
            # Only what can be imported is worth the search; a name with a dot would import what is before the dot.
            if not name.isidentifier() or find_spec(name) is None:
                return None
            found = metadata.version(imported()[name][0])
        return found or None  # None where the metadata is cut short
    return None


def _gibibytes(size: float) -> str:
    return f"{size / 2**30:.1f}".removesuffix(".0") + "GiB"


# ---- processor and memory ------------------------------------------------------------------


def cpu_count(cgroups: Path = Path("/sys/fs/cgroup")) -> int:
    """Return how many processors this process may use: affinity and container limits count."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(min([allowed, *_cpu_limits(cgroups)])))


def memory_bytes(cgroups: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Return how much memory this process may use; None where the system does not say."""
    try:
        installed = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None
    return min([installed, *_memory_limits(cgroups)])


def _cpu_limits(cgroups: Path) -> Iterator[float]:
    for folder in _control_groups(cgroups, "cpu"):
        quota, _, period = _content(folder / "cpu.max").partition(" ")
        if not quota:  # the first version of control groups
            quota, period = _content(folder / "cpu.cfs_quota_us"), _content(folder / "cpu.cfs_period_us")
        if quota.isdigit() and period.isdigit():
            yield int(quota) / int(period)


def _memory_limits(cgroups: Path) -> Iterator[int]:
    for folder in _control_groups(cgroups, "memory"):
        limit = _content(folder / "memory.max") or _content(folder / "memory.limit_in_bytes")
        if limit.isdigit():
            yield int(limit)


def _control_groups(root: Path, controller: str) -> Iterator[Path]:
    """Yield the folders whose limits hold for this process: its own group and all above it."""
    for line in _content(Path("/proc/self/cgroup")).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        top = root / controllers if controllers else root
        own = top / path.strip("/")
        yield from (folder for folder in (own, *own.parents) if folder == top or top in folder.parents)


def _content(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:  # no such limit here, or not ours to see
        return ""


# ---- graphics processors -------------------------------------------------------------------


def _gpu_tags() -> dict[str, str | None]:
    deadline = time.monotonic() + GPU_SECONDS
    listing = _nvidia_smi(deadline, "--query-gpu=index,uuid,name,memory.total", "--format=csv,noheader,nounits")
    gpus = _visible([line.split(", ") for line in listing.splitlines() if line.count(", ") == 3])
    if not gpus:
        return {}
    tags: dict[str, str | None] = {"gpu": None, "gpu.count": str(len(gpus)), "gpu.name": gpus[0][2]}
    tags["gpu.uuid"] = ",".join(gpu[1][:UUID_LENGTH] for gpu in gpus)
    memory = [int(gpu[3]) for gpu in gpus if gpu[3].isdigit()]
    if memory:
        tags["gpu.memory"] = _gibibytes(min(memory) * 2**20)  # the smallest: a job may land on any of them
    cuda = re.search(r"CUDA[\w ]* Version:\s*(\d+(?:\.\d+)*)", _nvidia_smi(deadline))
    if cuda:
        tags["cuda"] = cuda[1]
    return tags


def _nvidia_smi(deadline: float, *arguments: str) -> str:
    """Return what nvidia-smi prints; nothing if it is absent, fails, or takes too long."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return ""
    try:
        answer = subprocess.run(
            [program, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=max(0.1, deadline - time.monotonic()),
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return answer.stdout


def _visible(gpus: list[list[str]]) -> list[list[str]]:
    """Return those of *gpus* that CUDA_VISIBLE_DEVICES leaves to this process, in its order."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is None:
        return gpus
    visible: list[list[str]] = []
    for wanted in map(str.strip, chosen.split(",")):
        match = [gpu for gpu in gpus if gpu[0] == wanted or (wanted and gpu[1].startswith(wanted))]
        if not match:  # CUDA, too, ignores what follows an unknown device
            break
        visible.append(match[0])
    return visible
