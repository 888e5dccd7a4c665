"""The engine in numbers, read as Prometheus reads it, from an engine that did what they tell of."""

from __future__ import annotations

import asyncio
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

import dcengine
from dcengine.client import Client
from dcengine.errors import DiskFull, StoreBroken
from dcengine.store import project_reads
from dcengine.verbs import Completion, LeaseRequest, TokenSpec
from dcengine.verbs.figures import Distribution
from tests.engines import embedded, eventually, forget_engines

Sample = tuple[str, frozenset[tuple[str, str]]]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dcengine.Engine]:
    with embedded(tmp_path_factory.mktemp("metrics") / "work.db", processes=False, workers=1) as opened:
        yield opened
    forget_engines()


def get(engine: dcengine.Engine, path: str, token: str | None = None, method: str = "GET") -> tuple[int, str]:
    """Status and text of an answer; *token* None stands for the engine's own."""
    bare = engine.url.partition("?")[0].rstrip("/")
    headers = {"Authorization": f"Bearer {engine.token if token is None else token}"} if token != "" else {}
    request = urllib.request.Request(f"{bare}{path}", method=method, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def scraped(engine: dcengine.Engine) -> dict[Sample, float]:
    """Every number of /metrics by its name and labels."""
    status, text = get(engine, "/metrics")
    assert status == 200, text
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(engine: dcengine.Engine, name: str, **labels: str) -> float:
    return scraped(engine).get((name, frozenset(labels.items())), 0.0)


def ask(engine: dcengine.Engine, question: Any) -> Any:
    """The answer of ``question(client)``, over HTTP."""

    async def asked() -> Any:
        client = Client(engine.url)
        try:
            return await question(client)
        finally:
            await client.close()

    return asyncio.run(asked())


def lease_project(name: str, jobs: int) -> dcengine.Project:
    project = dcengine.Project(name)
    project.lease_stage("label", lease_seconds=1)
    project.add([{"n": n} for n in range(jobs)])
    project.run()
    return project


def test_the_numbers_of_a_project_are_what_has_happened(engine: dcengine.Engine) -> None:
    lease_project("laion", 5)

    def lease(worker: str, n: int) -> Any:
        return ask(
            engine,
            lambda client: client.lease(
                LeaseRequest(project="laion", stage="label", worker=worker, nickname=f"nick-{worker}", n=n)
            ),
        )

    place = {"project": "laion", "stage": "label"}
    first, second = lease("w1", 2), lease("w2", 1)
    assert (len(first), len(second)) == (2, 1)
    held = scraped(engine)
    done = ask(engine, lambda client: client.complete([Completion(token=first[0].token, output=b"1")]))
    eventually(lambda: value(engine, "dcengine_leases_expired_total", **place) == 2)
    stale = ask(engine, lambda client: client.complete([Completion(token=second[0].token, output=b"1")]))

    assert done[0].is_accepted
    assert not stale[0].is_accepted
    assert held["dcengine_leases", frozenset(place.items())] == 3
    assert held["dcengine_tasks", frozenset({**place, "state": "leased"}.items())] == 3
    assert held["dcengine_outside_workers", frozenset({"project": "laion"}.items())] == 2
    assert value(engine, "dcengine_tasks", **place, state="succeeded") == 1
    assert value(engine, "dcengine_jobs", project="laion", state="open") == 4
    assert value(engine, "dcengine_tasks_accepted_total", **place) == 1
    assert value(engine, "dcengine_stale_answers_refused_total") >= 1
    lease_path = "/v1/projects/{name}/stages/{stage}/lease"
    assert value(engine, "dcengine_http_requests_total", path=lease_path, method="POST", status="200") == 2


def test_functions_workers_and_the_store_are_in_numbers_too(engine: dcengine.Engine) -> None:
    before = value(engine, "dcengine_tasks_accepted_total", project="functions", stage="call")
    assert dcengine.submit(abs, -1).result() == 1
    assert dcengine.map(abs, [-1, -2, -3]).results() == [1, 2, 3]

    numbers = scraped(engine)
    accepted = frozenset({"project": "functions", "stage": "call"}.items())
    assert numbers["dcengine_tasks_accepted_total", accepted] - before == 4
    assert numbers["dcengine_dask_workers", frozenset({("state", "ready")})] == 1
    assert numbers["dcengine_dask_slots", frozenset({("state", "idle")})] == 1
    assert numbers["dcengine_store_commit_seconds_count", frozenset()] > 3
    assert numbers["dcengine_store_operations_sum", frozenset()] >= 4
    assert numbers["dcengine_store_inbox_operations", frozenset()] >= 0
    assert numbers["process_resident_memory_bytes", frozenset()] > 1 << 20
    assert numbers["dcengine_build_info", frozenset({("version", dcengine.__version__)})] == 1
    eventually(lambda: value(engine, "dcengine_loop_lag_seconds_count") > 0)


def test_no_label_grows_with_jobs_workers_names_or_addresses(engine: dcengine.Engine) -> None:
    lease_project("crowd", 60)
    scraped(engine)

    def work(start: int) -> None:
        async def lease_some(client: Client) -> None:
            for n in range(start, start + 20):
                request = LeaseRequest(project="crowd", stage="label", worker=f"w{n}", nickname=f"n{n}")
                (task,) = await client.lease(request)
                await client.job(task.job)
                await client.complete([Completion(token=task.token, output=b"1")])

        ask(engine, lease_some)
        for n in range(start, start + 20):
            get(engine, f"/nowhere/{n}")
            get(engine, f"/v1/projects/p{n}")
            get(engine, "/healthz", method=f"ODD{n}")

    work(0)
    few = set(scraped(engine))
    work(20)
    many = set(scraped(engine))

    def of_labels(numbers: set[Sample]) -> set[Sample]:
        return {(name, labels) for name, labels in numbers if not name.endswith("_bucket")}

    assert of_labels(many) == of_labels(few)


def test_a_scrape_counts_no_rows() -> None:
    for statement in (project_reads.SELECT_TASK_COUNTERS, project_reads.SELECT_JOB_COUNTERS):
        assert re.search(r"(?i)\b(count|sum)\(|FROM (task|job)\b", statement) is None


def test_whoever_may_look_may_read_it_and_others_only_if_it_is_open(engine: dcengine.Engine, tmp_path: Path) -> None:
    tokens = {
        role: ask(engine, lambda client, role=role: client.create_token(TokenSpec(role=role))).token
        for role in ("view", "submit", "join")
    }
    found = {role: get(engine, "/metrics", token)[0] for role, token in {**tokens, "nobody": ""}.items()}
    with embedded(tmp_path / "open.db", processes=False, workers=0, open_metrics=True) as opened:
        is_open = get(opened, "/metrics", "")[0], get(opened, "/v1/status", "")[0]

    assert found == {"view": 200, "submit": 200, "join": 403, "nobody": 401}
    assert is_open == (200, 401)


def test_the_probes_answer_head_too(engine: dcengine.Engine) -> None:
    for path in ("/healthz", "/readyz"):
        assert get(engine, path, "", "HEAD") == (200, "")


@pytest.mark.parametrize("problem", [StoreBroken("work.db", "disk I/O error"), DiskFull("work.db")])
def test_an_engine_that_takes_no_jobs_says_so_and_why(
    engine: dcengine.Engine, monkeypatch: pytest.MonkeyPatch, problem: Exception
) -> None:
    """The store's own tests fill real disks; here only what it says of itself is looked at."""
    inside: Any = engine
    writer = inside._hosted.engine._store.writer

    async def fail(touch: Any) -> None:
        raise problem

    with monkeypatch.context() as patched:
        if isinstance(problem, StoreBroken):
            patched.setattr(writer, "_broken", problem)
        else:
            patched.setattr(writer, "trouble", problem)
            patched.setattr(inside._hosted.engine._store, "apply", fail)
        ready, alive = get(engine, "/readyz", ""), get(engine, "/healthz", "")

    assert ready == (503, f"not ready: {type(problem).__name__}\n")
    assert alive[0] == 200
    assert get(engine, "/readyz", "") == (200, "ready\n")


def test_after_a_write_that_failed_it_is_ready_once_another_one_goes_well(
    engine: dcengine.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside: Any = engine
    writer = inside._hosted.engine._store.writer
    writer.trouble = DiskFull("work.db")

    assert get(engine, "/readyz", "") == (200, "ready\n")
    assert writer.trouble is None


def test_an_engine_whose_disk_has_no_room_is_not_ready(
    engine: dcengine.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dcengine.engine.measuring.ROOM", 1 << 80)

    assert get(engine, "/readyz", "") == (503, "not ready: DiskFull\n")


def test_an_engine_that_closes_is_not_ready(tmp_path: Path) -> None:
    with embedded(tmp_path / "closing.db", processes=False, workers=0) as engine:
        inside: Any = engine
        inside._hosted.engine._is_closing = True

        assert get(engine, "/readyz", "") == (503, "not ready: EngineClosed\n")
        inside._hosted.engine._is_closing = False


def test_a_distribution_counts_each_size_in_its_bucket_and_all_above() -> None:
    sizes = Distribution((1.0, 2.0))
    for size in (0.5, 1.0, 1.5, 9.0):
        sizes.note(size)

    assert sizes.buckets() == [("1.0", 2.0), ("2.0", 3.0), ("+Inf", 4.0)]
    assert sizes.total == 12.0


def test_every_answer_carries_the_id_of_its_request(engine: dcengine.Engine) -> None:
    bare = engine.url.partition("?")[0]

    def id_for(given: str | None) -> str:
        headers = {} if given is None else {"X-Request-Id": given}
        with urllib.request.urlopen(urllib.request.Request(f"{bare}healthz", headers=headers)) as answer:
            found: str = answer.headers["X-Request-Id"]
            return found

    assert id_for("trace/7.a-b_c") == "trace/7.a-b_c"
    made = [id_for(given) for given in (None, None, "<script>", "x" * 101)]
    assert len(set(made)) == 4
    assert all(re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]+", each) for each in made)
