"""Kernels that run on a worker with the tags asked for: stock Jupyter starts, stops and loses them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import psutil
import pytest
import zmq
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import KernelManager

import dcengine
from dcengine_kernel import specs
from dcengine_kernel.errors import KernelNotStarted
from tests.engines import end, environment, eventually, joined, served
from tests.kernels import PATIENCE, Kernel


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """An engine with two workers, one with the tag gpu and one with the tag cpu, and where its file is."""
    db = tmp_path_factory.mktemp("engine") / "jobs.db"
    with served(db, "--worker-tags", "gpu;cpu", "--kernel-tags", "gpu;cpu", workers=2) as told:
        yield {**told, "db": db}


@contextmanager
def started(farm: dict[str, Any], folder: Path, tags: str = "gpu", **more: Any) -> Iterator[Kernel]:
    """A kernel of the kernelspec for *tags*, of which *more* is configured; it works in *folder*."""
    manager = manager_for(folder, tags, **more)
    manager.start_kernel(cwd=str(folder), env=environment(DCENGINE_URL=farm["url"]))
    client = manager.blocking_client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=PATIENCE)
        yield Kernel(manager, client)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def manager_for(folder: Path, tags: str, **more: Any) -> KernelManager:
    """Jupyter's own manager for the kernel with *tags*, as ``dcengine kernel install`` makes it known."""
    written = specs.install(folder, tags=tags)
    spec = json.loads((written / "kernel.json").read_text())
    spec["metadata"]["kernel_provisioner"]["config"] |= more
    (written / "kernel.json").write_text(json.dumps(spec))
    found = KernelSpecManager(kernel_dirs=[str(written.parent)])
    return KernelManager(kernel_name=written.name, kernel_spec_manager=found)


def ready_again(kernel: Kernel) -> None:
    """Connect *kernel* anew: it may have other ports and keys, where it was not ended politely."""
    kernel.client.stop_channels()
    kernel.client = kernel.manager.blocking_client()
    kernel.client.start_channels()
    kernel.client.wait_for_ready(timeout=PATIENCE)


def value(kernel: Kernel, expression: str) -> Any:
    """Return what *expression* is in *kernel*, through its text."""
    executed = kernel.execute(f"print({expression})")
    assert not executed.error, executed.error
    return executed.text().strip()


def job_of(kernel: Kernel) -> dcengine.JobHandle:
    """The job that hosts *kernel*."""
    provisioner: Any = kernel.manager.provisioner
    return dcengine.job(provisioner._launch.job)


def lives(pid: int) -> bool:
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


@pytest.fixture(scope="module")
def kernel(farm: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    with started(farm, tmp_path_factory.mktemp("notebooks")) as running:
        yield running


# ---- while it runs -------------------------------------------------------------------------


def test_a_cell_runs_in_a_process_of_the_worker_with_the_tags(farm: dict[str, Any], kernel: Kernel) -> None:
    pid = int(value(kernel, "__import__('os').getpid()"))

    assert pid in [process.pid for process in psutil.Process(int(farm["pid"])).children(recursive=True)]
    assert job_of(kernel).status().worker == "w1"
    assert [worker.tags.keys() & {"gpu", "cpu"} for worker in dcengine.workers() if worker.name == "w1"] == [{"gpu"}]


def test_it_has_the_slot_of_its_worker_and_whoever_waits_is_told_so(kernel: Kernel) -> None:
    waiting = dcengine.submit(os.getpid, tags="gpu")
    try:
        assert waiting.status().task_state == "queued"
        assert "w1" in waiting.why()
    finally:
        waiting.cancel()


def test_a_cell_in_it_can_be_distributed(kernel: Kernel) -> None:
    executed = kernel.execute("%%distribute --tags cpu\nimport os\nelsewhere = os.getpid()")

    assert not executed.error
    assert value(kernel, "elsewhere != __import__('os').getpid()") == "True"


def test_the_stop_button_interrupts_the_cell_and_leaves_the_kernel(kernel: Kernel) -> None:
    kernel.execute("kept = 41")
    request = kernel.start("import subprocess\nprint('begun', flush=True)\nsubprocess.run(['sleep', '60'])")
    kernel.hear(request, lambda message: "begun" in str(message["content"].get("text")))
    kernel.interrupt()

    assert "KeyboardInterrupt" in kernel.finish(request).error
    assert value(kernel, "kept + 1") == "42"
    assert job_of(kernel).status().state == "open"


def test_interrupting_its_job_interrupts_the_cell(kernel: Kernel) -> None:
    request = kernel.start("import time\nprint('begun', flush=True)\ntime.sleep(60)")
    kernel.hear(request, lambda message: "begun" in str(message["content"].get("text")))
    job_of(kernel).interrupt()

    assert "KeyboardInterrupt" in kernel.finish(request).error
    assert value(kernel, "6 * 7") == "42"


def answers(kernel: Kernel, **curve: bytes) -> bool:
    """Tell whether the kernel answers on its shell socket to one who knows its HMAC key, and *curve*."""
    context = zmq.Context()
    socket = context.socket(zmq.DEALER)
    try:
        for name, key in curve.items():
            setattr(socket, name, key)
        socket.connect(f"tcp://{kernel.manager.ip}:{kernel.manager.shell_port}")
        kernel.client.session.send(socket, "kernel_info_request")
        return bool(socket.poll(1000))
    finally:
        socket.close(linger=0)
        context.term()


def test_its_sockets_speak_to_nobody_without_its_curve_key(kernel: Kernel) -> None:
    own_public, own_secret = zmq.curve_keypair()
    mine = {"curve_publickey": own_public, "curve_secretkey": own_secret}

    assert kernel.manager.curve_publickey
    assert not answers(kernel)
    assert not answers(kernel, curve_serverkey=zmq.curve_keypair()[0], **mine)
    assert answers(kernel, curve_serverkey=kernel.manager.curve_publickey, **mine)


def test_no_secret_of_it_is_in_the_engines_file_or_a_command_line(farm: dict[str, Any], kernel: Kernel) -> None:
    secrets = [kernel.manager.session.key, kernel.manager.curve_secretkey, str(farm["token"]).encode()]
    pid = int(value(kernel, "__import__('os').getpid()"))
    stored = b"".join(file.read_bytes() for file in farm["db"].parent.glob("jobs.db*") if ".lock" not in file.name)

    assert b"kernel " + str(kernel.manager.kernel_id)[:8].encode() in stored
    assert not [secret for secret in secrets if secret in stored]
    assert not [secret for secret in secrets if secret.decode() in " ".join(psutil.Process(pid).cmdline())]
    assert value(kernel, "__import__('os').environ['DCENGINE_TOKEN']") == farm["token"]


def test_a_start_that_finds_no_free_slot_in_time_says_who_has_it(
    farm: dict[str, Any], kernel: Kernel, tmp_path: Path
) -> None:
    with (
        pytest.raises(KernelNotStarted, match=r"took more than 1 s; job \d+: .*w1"),
        started(farm, tmp_path, launch_timeout=1.0),
    ):
        pass

    assert not [job for job in dcengine.api.front.current().call("jobs", state="open") if job.worker != "w1"]


def test_no_worker_with_the_tags_is_told_at_once(farm: dict[str, Any], tmp_path: Path) -> None:
    begun = time.monotonic()
    with (
        pytest.raises(KernelNotStarted, match=r"none has gpu\.memory>=80GiB; .*dcengine join"),
        started(farm, tmp_path, "gpu.memory>=80GiB"),
    ):
        pass

    assert time.monotonic() - begun < 10


# ---- how it ends ---------------------------------------------------------------------------


def test_a_restart_is_a_new_process_under_the_same_id_whose_clients_stay_connected(kernel: Kernel) -> None:
    id, pid, job = kernel.manager.kernel_id, int(value(kernel, "__import__('os').getpid()")), job_of(kernel)
    kernel.execute("kept = 41")
    kernel.manager.restart_kernel(now=True)
    kernel.client.wait_for_ready(timeout=PATIENCE)

    assert not lives(pid)
    assert kernel.manager.kernel_id == id
    assert value(kernel, "'kept' in globals()") == "False"
    assert job.status().state == "succeeded"
    assert job_of(kernel).id != job.id


def test_a_kernel_that_ends_itself_counts_as_dead_and_may_be_started_again(kernel: Kernel) -> None:
    job = job_of(kernel)
    kernel.start("import os\nos._exit(3)")
    eventually(lambda: not kernel.manager.is_alive())
    kernel.manager.restart_kernel(now=True)
    ready_again(kernel)

    assert value(kernel, "6 * 7") == "42"
    assert job.status().state == "failed"
    assert "status 3" in str(job.status().reason)


def test_cancelling_its_job_ends_the_kernel(farm: dict[str, Any], kernel: Kernel) -> None:
    pid = int(value(kernel, "__import__('os').getpid()"))
    job_of(kernel).kill()

    eventually(lambda: not kernel.manager.is_alive() and not lives(pid))
    kernel.manager.restart_kernel(now=True)
    ready_again(kernel)


def test_shutting_it_down_leaves_no_process_and_frees_the_slot(kernel: Kernel) -> None:
    """The last of those that share the kernel."""
    kernel.execute("import os, subprocess\nchild = subprocess.Popen(['sleep', '600'])")
    pids = [int(value(kernel, "os.getpid()")), int(value(kernel, "child.pid"))]
    job = job_of(kernel)
    kernel.manager.shutdown_kernel()

    eventually(lambda: not any(map(lives, pids)), 5)
    assert dcengine.submit(os.getpid, tags="gpu").result(timeout=PATIENCE) not in pids
    assert job.status().state == "succeeded"


def test_a_worker_that_is_killed_takes_its_kernel_along_and_no_other_gets_it(
    farm: dict[str, Any], tmp_path: Path
) -> None:
    with joined(farm["url"], "--tags", "lab") as worker:
        eventually(lambda: any("lab" in each.tags for each in dcengine.workers()))
        with started(farm, tmp_path, "lab") as kernel:
            pid, job = int(value(kernel, "__import__('os').getpid()")), job_of(kernel)
            worker.kill()

            eventually(lambda: not kernel.manager.is_alive() and not lives(pid))
            eventually(lambda: job.status().state == "cancelled")


def test_a_kernel_without_tags_may_be_asked_for_with_some(farm: dict[str, Any], tmp_path: Path) -> None:
    headers = {"Authorization": f"token {farm['token']}"}
    base = str(farm["url"]).partition("?")[0]

    def start(**asked: Any) -> dict[str, Any]:
        question = Request(f"{base}api/kernels", json.dumps(asked).encode(), headers)
        with urlopen(question, timeout=PATIENCE) as answer:
            model: dict[str, Any] = json.load(answer)
        return model

    started = [start(name="dcengine", env={"KERNEL_DCENGINE_TAGS": "gpu"}), start(name="dcengine-cpu"), start()]
    try:
        names = [f"kernel {kernel['id'][:8]} ({tags})" for kernel, tags in zip(started, ("gpu", "cpu"), strict=False)]
        jobs = dcengine.api.front.current().call("jobs", state="open")
        assert {job.name: job.worker for job in jobs} == dict(zip(names, ("w1", "w2"), strict=True))
    finally:
        for kernel in started:
            urlopen(Request(f"{base}api/kernels/{kernel['id']}", None, headers, method="DELETE"), timeout=PATIENCE)


CLIENT = """
import sys, time
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import KernelManager

manager = KernelManager(kernel_name="dcengine-gpu", kernel_spec_manager=KernelSpecManager(kernel_dirs=[sys.argv[1]]))
manager.start_kernel()
client = manager.blocking_client()
client.start_channels()
client.wait_for_ready(timeout=60)
client.execute_interactive("import os; print(os.getpid(), flush=True)")
time.sleep(600)
"""


def test_a_kernel_whose_jupyter_is_gone_ends_after_a_while(farm: dict[str, Any], tmp_path: Path) -> None:
    manager_for(tmp_path, "gpu", patience=2.0)
    client = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(CLIENT), str(tmp_path / "kernels")],
        env=environment(DCENGINE_URL=farm["url"]), stdout=subprocess.PIPE, text=True, cwd=tmp_path,
    )  # fmt: skip
    try:
        assert client.stdout is not None
        pid = int(client.stdout.readline())
        client.send_signal(signal.SIGKILL)

        assert lives(pid)
        eventually(lambda: not lives(pid))
    finally:
        end(client)
