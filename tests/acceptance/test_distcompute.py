"""The unmodified `distcompute-client` 1.0.0, in processes of its own, against our tracker."""

from __future__ import annotations

import asyncio
import itertools
import json
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests

import dcengine
from tests.engines import embedded, eventually
from tests.old_clients import address_of, ask, project_of, run, start, told_by, workers_of
from tests.unit.losing import losing_answers


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dcengine.Engine]:
    with embedded(tmp_path_factory.mktemp("x") / "x.db", workers=0, processes=False) as engine:
        yield engine
        for project in ask("projects"):
            ask("cancel_project", project.name)


# ---- every call ----------------------------------------------------------------------------


def test_every_call_of_the_client_works_on_an_open_project(engine: dcengine.Engine) -> None:
    project = project_of(["one", {"n": 1}], is_open=True)
    url = f"http://{urlsplit(engine.url).netloc}/p/{project.name}/"

    (told,) = run(
        """
client = connect(sys.argv[1], "A", "Cluster 2")
counts = [client.job_count()]
client.new_job(); first = client.job, client.job_id
client.log("half"); alive = client.is_alive()
client.complete_job({"done": client.job})
client.new_job(); second = client.job, client.job_id
client.flag_invalid_data()
page = requests.get(f"{client.url}/worker/{client.stage_name.lower()}/{client.display_name}")
empty = refused(client.new_job)
client.bye()
tell([counts, first, second, alive, page.status_code, client.display_name in page.text, empty, client.is_alive(),
      client.project, client.stage_name])
""",
        url,
    )

    assert told == [
        [2], ["one", 1], [{"n": 1}, 2], True, 200, True, "ZeroJobError", False, project.name, "CPU",
    ]  # fmt: skip
    assert [row.nickname for row in project.leaderboard()] == ["Cluster 2"]


def test_name_and_token_before_the_host_are_taken_and_the_name_of_the_token_counts(engine: dcengine.Engine) -> None:
    project = project_of(["one"])
    url = address_of(engine.url, project, nickname="alice")

    (told,) = run(
        """
client = connect(sys.argv[1], "a", "mallory")
client.new_job(); client.complete_job("x")
tell([refused(connect, sys.argv[2], "a"), refused(connect, sys.argv[3], "a")])
""",
        url,
        url.replace("alice:", "alice:wrong"),
        f"http://{urlsplit(engine.url).netloc}/p/{project.name}/",
    )

    assert told == ["ServerError", "ServerError"]
    assert [row.nickname for row in project.leaderboard()] == ["alice"]


# ---- better than the original, line by line --------------------------------------------------

PASS_ON = """
client = connect(sys.argv[1], sys.argv[2])
client.new_job(); got = client.job
client.complete_job(json.loads(sys.argv[3]))
tell(got)
"""


def test_stage_hand_over_keeps_input_and_output(engine: dcengine.Engine) -> None:
    project = project_of([{"url": "s3://x/0.tar"}])
    url = address_of(engine.url, project)

    got = [run(PASS_ON, url, stage, json.dumps(f"made by {stage}"))[0] for stage in "abc"]

    assert got == [{"url": "s3://x/0.tar"}, "made by a", "made by b"]
    assert project.results() == ["made by c"]
    steps = project.job(1).history()
    assert [(step.input, step.output) for step in steps] == [
        ({"url": "s3://x/0.tar"}, "made by a"), ("made by a", "made by b"), ("made by b", "made by c"),
    ]  # fmt: skip


FLAG = """
for nickname in sys.argv[2:]:
    client = connect(sys.argv[1], "b", nickname)
    client.new_job(); client.flag_invalid_data()
    tell([nickname, refused(client.new_job)])
    client.bye()
"""


def test_the_fifth_voter_reopens_the_job_at_stage_a_with_its_original_input(engine: dcengine.Engine) -> None:
    project = project_of(["the original"])
    url = address_of(engine.url, project)
    run(PASS_ON, url, "a", '"bad"')

    refusals = run(FLAG, url, "v1", "v2", "v3", "v4")
    why = project.job(1).why()
    (same_again,) = run('client = connect(sys.argv[1], "b", "v1"); tell(refused(client.new_job))', url)
    run(FLAG, url, "v5")

    assert refusals == [[f"v{n}", "ZeroJobError"] for n in range(1, 5)]
    assert same_again == "ZeroJobError"
    assert "flagged 4 of 5 times (by v1, v2, v3, v4)" in why
    assert "not handed it again" in why
    assert project.leaderboard() == []
    assert run(PASS_ON, url, "a", '"better"') == ["the original"]
    assert run(FLAG, url, "v1") == [["v1", "ZeroJobError"]]  # votes begin anew
    assert "flagged 1 of 5" in project.job(1).why()
    project.cancel()


def test_the_leaderboard_counts_every_completion_of_four_clients_with_one_nickname(engine: dcengine.Engine) -> None:
    project = project_of([{"n": n} for n in range(200)], stages="a")
    url = address_of(engine.url, project)
    program = """
client = connect(sys.argv[1], "a", "Cluster 2")
done = 0
while refused(client.new_job) is None:
    client.complete_job("x"); done += 1
tell(done)
"""

    done = [told_by(process)[0] for process in [start(program, url) for _ in range(4)]]

    assert sum(done) == 200
    assert min(done) > 0
    assert {row.nickname: row.tasks for row in project.leaderboard()} == {"Cluster 2": 200}
    assert sorted(worker.completed for worker in workers_of(project)) == sorted(done)


@pytest.mark.parametrize("call", ["is_alive", "job_count"])
def test_is_alive_and_job_count_are_signs_of_life(engine: dcengine.Engine, call: str) -> None:
    project = project_of(["one"], stages="a", lease_seconds=1.5)

    (told,) = run(
        f"""
polling, silent = connect(sys.argv[1], "a", "polling"), connect(sys.argv[1], "a", "silent")
while silent.display_name in requests.get(sys.argv[1]).text:
    polling.{call}(); time.sleep(0.1)
tell([polling.is_alive(), silent.is_alive()])
""",
        address_of(engine.url, project),
    )

    assert told == [True, False]
    project.cancel()


async def test_a_lost_answer_to_new_job_and_to_complete_job_does_no_harm(tmp_path: Path) -> None:
    with embedded(tmp_path / "x.db", workers=0, processes=False) as engine:
        project = project_of(["one", "two", "three"], stages="ab")
        url = address_of(engine.url, project)
        async with losing_answers(engine.app) as (prefix, lost):
            losing = f"{url.partition('@')[0]}@{prefix.partition('//')[2]}p/{project.name}"
            process = start(
                """
client = connect(sys.argv[1], "a", "alice")
client.url = sys.argv[2]
client.new_job(); got = [client.job]
client.complete_job("done")
client.url = sys.argv[1].rstrip("/")
client.new_job(); got.append(client.job)
tell(got)
""",
                url,
                losing,
            )
            told = await asyncio.to_thread(told_by, process)

        assert [each.rpartition("/")[2] for each in lost] == ["newJob", "completeJob"]
        assert told == [["one", "two"]]
        assert {row.nickname: row.tasks for row in project.leaderboard()} == {"alice": 1}
        counts = {stage.name: stage.counts for stage in project.status().stages}
        assert {state: n for state, n in counts["a"].items() if n} == {"queued": 1, "leased": 1, "succeeded": 1}
        project.cancel()


def test_log_from_a_removed_worker_answers_404(engine: dcengine.Engine) -> None:
    project = project_of(["one"])

    (told,) = run(
        'client = connect(sys.argv[1], "a"); client.bye(); tell(refused(client.log, "still here"))',
        address_of(engine.url, project),
    )

    assert told == "WorkerTimedOutError"
    project.cancel()


def test_crashed_after_a_refusal_is_shown_as_waiting_for_jobs(engine: dcengine.Engine) -> None:
    project = project_of(["one"], stages="a")
    url = address_of(engine.url, project)

    (told,) = run(
        """
client = connect(sys.argv[1], "a")
client.new_job(); client.complete_job("x")
tell([refused(client.new_job), requests.get(f"{client.url}/worker/cpu/{client.display_name}").text])
client.log("Crashed")
""",
        url,
    )

    assert told[0] == "ZeroJobError"
    assert "waiting for jobs" in told[1]
    assert "Crashed" not in told[1]
    assert [worker.progress for worker in workers_of(project)] == ["Crashed"]  # said by the program itself


def test_a_job_costs_the_same_with_few_and_with_many_open(engine: dcengine.Engine) -> None:
    few, many = project_of(["x"] * 1000, stages="a"), project_of(["x"] * 50_000, stages="a")
    spent: dict[str, list[float]] = {}
    for project in (few, many, few, many):
        url, session = address_of(engine.url, project), requests.Session()
        token = session.get(f"{url}api/new", params={"stage": "a", "nickname": "x"}).json()["token"]
        for _ in range(40):
            began = time.perf_counter()
            assert session.post(f"{url}api/newJob", json={"token": token}).ok
            assert session.post(f"{url}api/completeJob", json={"token": token, "data": "y"}).ok
            spent.setdefault(project.name, []).append(time.perf_counter() - began)

    assert statistics.median(spent[many.name]) < 2 * statistics.median(spent[few.name])


def test_jobs_are_added_while_clients_wait_for_them_and_outputs_are_read_back(engine: dcengine.Engine) -> None:
    project = project_of(["first"], stages="a")
    process = start(
        """
client = connect(sys.argv[1], "a")
done = 0
while done < 4:
    if not client.job_count():
        time.sleep(0.05); continue
    if refused(client.new_job) is None:
        client.complete_job(f"from {client.job}"); done += 1
""",
        address_of(engine.url, project),
    )
    eventually(lambda: project.status().succeeded == 1)

    project.add(["second", "third"])
    project.add(["fourth"])
    told_by(process)

    assert project.outputs("a") == {n: f"from {x}" for n, x in enumerate(("first", "second", "third", "fourth"), 1)}


# ---- ordinary use, and worse ----------------------------------------------------------------


def test_a_program_that_skips_jobs_gets_others_and_they_go_back(engine: dcengine.Engine) -> None:
    project = project_of(["one", "two", "three"], stages="a")

    (told,) = run(
        """
client = connect(sys.argv[1], "a"); got = []
for _ in range(3):
    client.new_job(); got.append(client.job)
tell([got, client.job_count()])
""",
        address_of(engine.url, project),
    )

    assert told[1] == 2
    assert all(before != after for before, after in itertools.pairwise(told[0]))
    project.cancel()
