from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from dcengine.cluster import facts
from dcengine.tags import parse

SMI = """#!/bin/sh
case "$*" in
*query-gpu*) echo "0, GPU-aaa, NVIDIA H200, 143771"; echo "1, GPU-bbb, NVIDIA T4, 15360" ;;
*) echo "| NVIDIA-SMI 550.90    Driver Version: 550.90    CUDA Version: 12.4     |" ;;
esac
"""


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is the whole PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return folder


def install(folder: Path, name: str, script: str = "#!/bin/sh\n") -> None:
    program = folder / name
    program.write_text(script)
    program.chmod(0o755)


def test_this_machine_satisfies_what_every_machine_has(programs: Path) -> None:
    offered = facts.discover()

    assert parse("cpu.count>=1 & memory>=64MiB & python>=3.10 & os & arch & host").matches(offered)
    assert not parse("gpu | gpu.count | cuda").matches(offered)


def test_programs_on_the_path_are_offered(programs: Path) -> None:
    install(programs, "ffmpeg")

    offered = facts.discover()

    assert {name for name in offered if name.startswith("exe.")} == {"exe.ffmpeg"}


def test_graphics_processors_are_offered_with_the_memory_of_the_smallest(programs: Path) -> None:
    install(programs, "nvidia-smi", SMI)

    offered = facts.discover()

    gpu = {name: value for name, value in offered.items() if name.startswith(("gpu", "cuda"))}
    uuids = {"gpu.uuid": "GPU-aaa,GPU-bbb"}
    expected = {"gpu": None, "gpu.count": "2", "gpu.name": "NVIDIA H200", "gpu.memory": "15GiB", "cuda": "12.4"}
    assert gpu == {**expected, **uuids}


@pytest.mark.parametrize(
    ("chosen", "names"), [("1", ["T4"]), ("1,0", ["T4", "H200"]), ("GPU-a", ["H200"]), ("", []), ("0,-1,1", ["H200"])]
)
def test_hidden_graphics_processors_are_not_offered(
    programs: Path, monkeypatch: pytest.MonkeyPatch, chosen: str, names: list[str]
) -> None:
    install(programs, "nvidia-smi", SMI)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen)

    offered = facts.discover()

    assert offered.get("gpu.count") == (str(len(names)) if names else None)
    assert offered.get("gpu.name") == (f"NVIDIA {names[0]}" if names else None)


@pytest.mark.parametrize("script", ["#!/bin/sh\necho 'NVIDIA-SMI has failed'; exit 9\n", "no program at all"])
def test_a_broken_driver_offers_no_graphics_processor(programs: Path, script: str) -> None:
    install(programs, "nvidia-smi", script)

    assert "gpu" not in facts.discover()


def test_a_hanging_driver_costs_a_bounded_time(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(programs, "nvidia-smi", "#!/bin/sh\nexec /bin/sleep 60\n")
    monkeypatch.setattr(facts, "GPU_SECONDS", 0.3)
    begun = time.monotonic()

    assert "gpu" not in facts.discover()
    assert time.monotonic() - begun < 30


@pytest.fixture
def limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of control groups of a process that lives in /site/job."""
    membership = tmp_path / "cgroup"
    membership.write_text("4:memory:/old\n0::/site/job\n")
    content = facts._content
    monkeypatch.setattr(
        facts, "_content", lambda path: content(membership if path == Path("/proc/self/cgroup") else path)
    )
    (tmp_path / "groups/site/job").mkdir(parents=True)
    (tmp_path / "groups/memory/old").mkdir(parents=True)
    return tmp_path / "groups"


def test_the_tightest_limit_of_all_enclosing_groups_holds(limits: Path) -> None:
    (limits / "site/job/memory.max").write_text("max\n")
    (limits / "site/memory.max").write_text(f"{96 * 2**20}\n")
    (limits / "site/job/cpu.max").write_text("max 100000\n")
    (limits / "site/cpu.max").write_text("50000 100000\n")

    assert facts.memory_bytes(limits) == 96 * 2**20
    assert facts.cpu_count(limits) == 1


def test_limits_of_the_first_kind_of_control_groups_hold(limits: Path) -> None:
    (limits / "memory/old/memory.limit_in_bytes").write_text(f"{64 * 2**20}\n")

    assert facts.memory_bytes(limits) == 64 * 2**20


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity")
def test_affinity_limits_the_number_of_processors(limits: Path) -> None:
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        assert facts.cpu_count(limits) == 1
    finally:
        os.sched_setaffinity(0, allowed)
    assert facts.cpu_count(limits) == len(allowed)


# ---- on demand -----------------------------------------------------------------------------


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is searched for packages first."""
    folder = tmp_path / "site-packages"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    return folder


def distribute(folder: Path, name: str, version: str, module: str) -> None:
    """Put what an installer leaves of a package into *folder*; the module itself ends whoever imports it."""
    (folder / f"{module}.py").write_text("raise SystemExit(9)")
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "top_level.txt").write_text(f"{module}\n")


def test_packages_are_found_by_either_name_and_are_not_imported(installed: Path) -> None:
    distribute(installed, "fancy_thing", "2.1", "fancything")

    found = facts.look_up(["pkg.fancy-thing", "pkg.Fancy_Thing", "pkg.fancything", "pkg.fancy"])

    assert found == {"pkg.fancy-thing": "2.1", "pkg.Fancy_Thing": "2.1", "pkg.fancything": "2.1"}


def test_any_program_on_the_path_is_found_when_asked_for(programs: Path) -> None:
    install(programs, "ripgrep")

    assert facts.look_up(["exe.ripgrep", "exe.grep"]) == {"exe.ripgrep": None}


def test_broken_metadata_is_a_package_that_is_missing(installed: Path) -> None:
    (installed / "broken-1.0.dist-info").mkdir()
    (installed / "odd-1.0.dist-info").mkdir()
    (installed / "odd-1.0.dist-info" / "METADATA").write_bytes(b"\xff\xfe\x00")

    assert facts.look_up(["pkg.broken", "pkg.odd"]) == {}


@pytest.mark.parametrize("name", ["pkg.", "exe.../sh", "exe./bin/sh", "pkg.a b", "pkg.os;x", "gpu", "pkg." + "a" * 101])
def test_what_is_no_name_is_not_looked_for(name: str) -> None:
    assert facts.look_up([name]) == {}
