"""Workers that lie about their leases, take all they can get, or hand in what would run where it is unpacked."""

from __future__ import annotations

import base64
import json
import pickle
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import dcengine
from dcengine.cli import app
from dcengine.codec import pack, pack_json
from dcengine.verbs import ItemsSubmission, ProjectSpec, StageSpec
from tests.attacks import Target
from tests.engines import embedded, eventually

REPORTS = ("heartbeat", "complete", "fail", "flag", "release")


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dcengine.Engine]:
    with embedded(tmp_path_factory.mktemp("leases") / "work.db", processes=False, workers=1) as started:
        yield started


@pytest.fixture(scope="module")
def target(engine: dcengine.Engine) -> Target:
    return Target(engine.url)


def declare(engine: dcengine.Engine, name: str, jobs: int, **options: Any) -> None:
    """Make a project of two lease stages that runs, with *jobs* jobs."""
    stages = [StageSpec(name=stage, kind="lease", retries=5, **options) for stage in "ab"]
    engine._link.call("declare_project", ProjectSpec(name=name, stages=stages))
    block = pack([pack_json(number, what="an item") for number in range(jobs)])
    engine._link.call("add_jobs", ItemsSubmission(project=name, blocks=[block], count=jobs))
    engine._link.call("run_project", name)


def worker_token(target: Target, project: str, **fields: Any) -> str:
    status, made = target.ask("POST", "/v1/tokens", {"role": "worker", "project": project, **fields})
    assert status == 200, made
    return str(made["token"])


def lease(target: Target, project: str, *, token: str | None = None, stage: str = "a", **fields: Any) -> Any:
    status, tasks = target.ask(
        "POST", f"/v1/projects/{project}/stages/{stage}/lease", {"worker": "w1", **fields}, token=token
    )
    assert status == 200, tasks
    return tasks


def say(target: Target, what: str, *leases: str, token: str | None = None, **fields: Any) -> list[bool]:
    """Say *what* of tasks; return which words were taken."""
    items: list[object] = list(leases) if what == "release" else [{"token": each, **fields} for each in leases]
    if what == "fail":
        items = [{"reason": "no luck", **item} for item in items]  # type: ignore[dict-item]
    status, answers = target.ask("POST", f"/v1/tasks/{what}", items, token=token)
    assert status == 200, answers
    return [answer["is_accepted"] for answer in answers]


# ---- leases that are not the speaker's -----------------------------------------------------


def test_no_forged_lease_is_taken(engine: dcengine.Engine, target: Target) -> None:
    declare(engine, "forged", 2)
    mine, other = lease(target, "forged", n=2)
    task, attempt, secret = mine["token"].split("-")
    other_task, _, other_secret = other["token"].split("-")
    forged = [
        f"{task}-{attempt}-{other_secret}",
        f"{other_task}-{attempt}-{secret}",
        f"{task}-2-{secret}",
        f"{task}-0-{secret}",
        f"{task}-{attempt}-0",
        f"{task}-{attempt}-{int(secret, 16) ^ 1:x}",
        f"{task}-{attempt}-{secret}".upper() + "-",
        f"{task}-{attempt}",
        f"-{attempt}-{secret}",
        f"0{task}-{attempt}-{secret}",
        f"{task}-{attempt}-{secret} ",
        f"{task}-{attempt}-{'f' * 16}",
        f"{task}-{attempt}-{'f' * 100}",
        f"{task}-{attempt}-0x{secret}",
        f"{task}-{attempt}-\u0661",
        f"{task}-{attempt}-{secret}\x00",
        "1' OR 1=1 --",
        "%",
        "",
    ]

    for what in REPORTS:
        assert say(target, what, *forged) == [False] * len(forged)
    assert say(target, "complete", mine["token"], other["token"]) == [True, True]


def test_a_lease_is_good_once_and_for_its_holder_alone(engine: dcengine.Engine, target: Target) -> None:
    declare(engine, "replayed", 1)
    (first,) = lease(target, "replayed", worker="w1", nickname="alice")
    assert say(target, "release", first["token"]) == [True]
    (second,) = lease(target, "replayed", worker="w2", nickname="bob")

    for what in ("heartbeat", "complete", "flag"):
        assert say(target, what, first["token"]) == [False]
    assert say(target, "complete", second["token"], output="done") == [True]
    for what in REPORTS:
        for token in (first["token"], second["token"]):
            repeated = (what, token) == ("complete", second["token"])
            released_before = what in ("release", "fail", "flag") and token == first["token"]
            if not released_before:
                assert say(target, what, token, **({"output": "other"} if what == "complete" else {})) == [repeated]
    (then,) = lease(target, "replayed", stage="b")
    assert then["input"] == "done"
    assert {row.nickname: row.tasks for row in dcengine.leaderboard("replayed")} == {"bob": 1}


def test_a_task_that_was_given_back_by_a_flag_takes_no_output(engine: dcengine.Engine, target: Target) -> None:
    declare(engine, "flagged", 1, votes=1)
    (first,) = lease(target, "flagged", nickname="alice")
    assert say(target, "complete", first["token"], output="blurred") == [True]
    (second,) = lease(target, "flagged", stage="b", nickname="bob")
    assert say(target, "flag", second["token"]) == [True]

    assert say(target, "complete", second["token"], output="sharp") == [False]
    assert say(target, "flag", second["token"]) == [True]  # said again, since the answer may have been lost
    assert say(target, "complete", first["token"], output="blurred") == [True]
    assert say(target, "flag", first["token"]) == [False]
    assert dcengine.leaderboard("flagged") == []


def test_a_lease_that_has_ended_gives_nothing_more(engine: dcengine.Engine, target: Target) -> None:
    declare(engine, "late", 1, lease_seconds=1)
    (late,) = lease(target, "late", worker="slow", nickname="alice")
    again = eventually(lambda: lease(target, "late", worker="quick", nickname="bob"))[0]  # type: ignore[index]

    assert say(target, "complete", late["token"], output="late") == [False]
    assert say(target, "complete", again["token"], output="in time") == [True]
    assert say(target, "complete", late["token"], output="late") == [False]
    assert {row.nickname for row in dcengine.leaderboard("late")} == {"bob"}


def test_a_token_of_one_project_is_worth_nothing_in_another(engine: dcengine.Engine, target: Target) -> None:
    for name in ("ours", "theirs"):
        declare(engine, name, 2)
    token = worker_token(target, "theirs", nickname="mallory")
    (ours,) = lease(target, "ours", worker="w1", nickname="alice")

    status, refused = target.ask("POST", "/v1/projects/ours/stages/a/lease", {"worker": "w"}, token=token)
    assert (status, refused["error"]) == (403, "AccessDenied")
    for what in REPORTS:
        assert say(target, what, ours["token"], token=token) == [False]
    assert say(target, "complete", ours["token"], output="ours") == [True]
    assert {row.nickname for row in dcengine.leaderboard("ours")} == {"alice"}


def test_nobody_says_of_himself_who_let_him_in(engine: dcengine.Engine, target: Target) -> None:
    declare(engine, "named", 2)
    token = worker_token(target, "named", nickname="mallory")
    said = {"nickname": "alice", "project": "ours", "stage": "b", "is_volunteer": False, "grant": 1, "worker": "w"}

    status, (task,) = target.ask("POST", "/v1/projects/named/stages/a/lease", said, token=token)
    assert (status, say(target, "complete", task["token"], token=token)) == (200, [True])

    assert {row.nickname: row.tasks for row in dcengine.leaderboard("named")} == {"mallory": 1}


def test_ten_thousand_leases_by_one_token_take_nothing_from_the_others(engine: dcengine.Engine, target: Target) -> None:
    declare(engine, "greedy", 11_000)
    greedy, modest = (worker_token(target, "greedy", nickname=name) for name in ("mallory", "alice"))

    held, refusals = list[str](), 0
    for _ in range(12):
        status, tasks = target.ask(
            "POST", "/v1/projects/greedy/stages/a/lease", {"worker": "w", "n": 1000}, token=greedy
        )
        if status == 200:
            held += [task["token"] for task in tasks]
        else:
            assert status == 429, tasks
            refusals += 1
    began = time.monotonic()
    (task,) = lease(target, "greedy", token=modest, worker="m")
    took = time.monotonic() - began

    assert len(held) == len(set(held)) <= 10_000
    assert took < 1
    assert say(target, "complete", task["token"], token=modest) == [True]
    assert all(
        all(say(target, "release", *held[start : start + 1000], token=greedy)) for start in range(0, len(held), 1000)
    )


# ---- what would run where it is unpacked ---------------------------------------------------


class Trap:
    """What leaves a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self._path,))


def test_a_pickle_from_a_worker_stays_a_text_wherever_it_goes(
    engine: dcengine.Engine, target: Target, tmp_path: Path
) -> None:
    sign = tmp_path / "was-unpickled"
    trap = pickle.dumps(Trap(sign))
    texts = [
        trap.decode("latin-1"),
        base64.b64encode(trap).decode(),
        trap.hex(),
        "J" + trap.decode("latin-1"),
        "O" + trap.decode("latin-1"),
        "R" + trap.decode("latin-1"),
        "\x80\x05" + trap.decode("latin-1"),
        json.dumps({"__reduce__": ["os.system", [f"touch {sign}"]], "py/reduce": [{"py/type": "os.system"}]}),
    ]
    project = dcengine.Project("trapped")
    project.lease_stage("a")

    @project.stage
    def look(found: str) -> str:
        assert type(found) is str
        return found

    project.add(texts)
    project.run()
    tasks = lease(target, "trapped", n=len(texts), nickname=texts[0][:100], wait=5)
    assert sorted(task["input"] for task in tasks) == sorted(texts)
    for task in tasks:
        assert say(target, "heartbeat", task["token"], text=texts[0][:400]) == [True]
        assert say(target, "complete", task["token"], output=task["input"]) == [True]

    assert project.results(60) == texts
    assert sorted(project.outputs("a").values()) == sorted(texts)
    assert [step.output for step in project.job(1).history()] == [texts[0], texts[0]]
    repr(project.leaderboard()), repr(project.job(1).history()), repr(project)
    for arguments in (
        ["export", "trapped"], ["export", "trapped", "--stage", "a", "--format", "csv"], ["leaderboard", "trapped"],
        ["jobs", "history", "trapped/1"], ["project", "show", "trapped"], ["jobs", "list"],
    ):  # fmt: skip
        result = CliRunner().invoke(app, arguments)
        assert arguments[0] == "jobs" or result.exit_code == 0, result.output
    assert not sign.exists()
    pickle.loads(trap)
    assert sign.exists()  # so the trap was a good one


@pytest.mark.parametrize("what", ["complete", "fail", "flag"])
def test_a_body_that_is_a_pickle_is_refused_unread(target: Target, tmp_path: Path, what: str) -> None:
    sign = tmp_path / "was-unpickled"
    trap = pickle.dumps(Trap(sign))

    for body in (trap, b'[{"token": "t", "output": ' + trap + b"}]", b'[{"token": "t", "reason": "' + trap + b'"}]'):
        for kind in ("application/json", "application/octet-stream", "application/msgpack", "application/x-pickle"):
            (reply,) = target.say(target.request("POST", f"/v1/tasks/{what}", body, Content_Type=kind))
            assert reply.status == 400
    assert not sign.exists()


def test_a_workers_token_leaves_no_pickle_anywhere(engine: dcengine.Engine, target: Target, tmp_path: Path) -> None:
    declare(engine, "guarded", 1)
    token = worker_token(target, "guarded")
    trap = pickle.dumps(Trap(tmp_path / "sign"))

    for path in (
        "/v1/jobs", "/v1/batches", "/v1/projects", "/v1/projects/guarded/jobs", "/v1/jobs/1/edit", "/v1/values",
        "/v1/backup", "/v1/tokens",
    ):  # fmt: skip
        (reply,) = target.say(target.request("POST", path, trap, token=token, Content_Type="application/octet-stream"))
        assert reply.status == 403


def test_two_volunteers_that_choose_the_same_key_do_not_get_each_others_task(
    engine: dcengine.Engine, target: Target
) -> None:
    declare(engine, "keyed", 2)
    path = "/v1/projects/keyed/stages/a/lease"

    answers = [target.ask("POST", path, {"worker": name}, Idempotency_Key="1")[1] for name in ("w1", "w2", "w1")]

    first, second, again = (answer[0]["token"] for answer in answers)
    assert first == again != second
