"""Each call of old clients as it goes over the wire: what it takes, and the status that it is answered with."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests

import dcengine
from dcengine import api
from dcengine.verbs import OutsideWorker, TokenSpec
from tests.engines import embedded, eventually

WORKER_CALLS = ("validateWorker", "newJob", "updateProgress", "completeJob", "flagInvalidData", "bye")
NASTY = "<script>alert(1)</script>\u202e\x1b[31m\x00\u200b\"'&"


class Laion:
    """A project, and what its workers say to it."""

    def __init__(self, engine: dcengine.Engine, name: str, items: list[Any], **options: Any) -> None:
        self.project = dcengine.Project(name, protocol="distcompute", is_open=False)
        for letter, title in (("a", "CPU"), ("b", "GPU"), ("c", "Pack")):
            self.project.lease_stage(letter, title=title, **options)
        if items:
            self.project.add(items)
        else:
            self.project.add(["x"])
            self.project.cancel()
        self.project.run()
        self.session = requests.Session()
        made = api.current().call("create_token", TokenSpec(role="worker", project=name))
        host, _, _ = engine.url.partition("/?")
        self.url = f"{host.replace('://', f'://x:{made.token}@')}/p/{name}"

    def get(self, path: str, **query: str) -> requests.Response:
        return self.session.get(f"{self.url}{path}", params=query, timeout=30)

    def post(self, call: str, session: requests.Session | None = None, **body: Any) -> requests.Response:
        return (session or self.session).post(f"{self.url}/api/{call}", json=body, timeout=30)

    def new(self, stage: str = "a", nickname: str = "alice") -> dict[str, str]:
        told = self.get("/api/new", stage=stage, nickname=nickname)
        assert told.status_code == 200, told.text
        found: dict[str, str] = told.json()
        return found


Make = Callable[..., Laion]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dcengine.Engine]:
    with embedded(tmp_path_factory.mktemp("x") / "x.db", workers=0, processes=False) as engine:
        yield engine
        for project in api.current().call("projects"):
            api.current().call("cancel_project", project.name)


@pytest.fixture
def make(engine: dcengine.Engine) -> Make:
    """What makes a project of its own for a test."""

    def make(items: list[Any], **options: Any) -> Laion:
        return Laion(engine, f"laion {next(numbers)}", items, **options)

    return make


numbers = itertools.count(1)


def test_a_worker_is_told_who_it_is(make: Make) -> None:
    laion = make([1])

    told = laion.new("b")

    assert told.keys() == {"token", "display_name", "project", "stage_name"}
    assert (told["project"], told["stage_name"]) == (laion.project.name, "GPU")
    assert re.fullmatch(r"[a-z]+-[a-z]+-\d{1,3}", told["display_name"])
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", told["token"])


def test_a_job_travels_with_its_number_and_its_data_as_a_text(make: Make) -> None:
    laion = make(["s3://x/0.tar", {"n": [1, None]}, 7])
    token = laion.new()["token"]

    told = []
    for _ in range(3):
        told.append(laion.post("newJob", token=token).json())
        assert laion.post("completeJob", token=token, data="done").text == "200 OK"

    assert told == [
        {"data": "s3://x/0.tar", "number": 1},
        {"data": '<!json!>{"n":[1,null]}', "number": 2},
        {"data": "<!json!>7", "number": 3},
    ]


@pytest.mark.parametrize("call", WORKER_CALLS)
def test_a_token_that_nobody_has_is_answered_404_and_so_is_none_at_all(make: Make, call: str) -> None:
    laion = make([1])
    rest = {"data": "x", "progress": "Crashed"}

    answers = [laion.post(call, token=token, **rest) for token in (None, "no such token", "\ud800", 7)]

    if call == "validateWorker":
        assert [(answer.status_code, answer.text) for answer in answers] == [(200, "False")] * 4
    else:
        assert [answer.status_code for answer in answers] == [404] * 4


@pytest.mark.parametrize("call", WORKER_CALLS)
def test_a_request_without_a_token_or_that_is_no_object_is_answered_422(make: Make, call: str) -> None:
    laion = make([1])

    assert laion.post(call, data="x", progress="y").status_code == 422
    for body in (b"", b"[1]", b"{", b"\xff", b"[" * 100_000):
        assert laion.session.post(f"{laion.url}/api/{call}", data=body, timeout=30).status_code == 422


def test_what_is_no_text_is_refused_and_a_number_is_taken_for_one(make: Make) -> None:
    laion = make([1])
    token = laion.new()["token"]
    laion.post("newJob", token=token)

    refused = [laion.post("updateProgress", token=token, progress=value) for value in (None, [1], {}, True)]
    refused += [laion.post("completeJob", token=token, data=value) for value in (None, [1], {"a": 1})]
    refused += [laion.post("updateProgress", token=token), laion.post("completeJob", token=token)]
    number = laion.post("updateProgress", token=token, progress=42)

    assert [answer.status_code for answer in refused] == [422] * 9
    assert (number.status_code, number.text) == (200, "200 OK")
    assert workers_of(laion)[0].progress == "42"


def test_a_stage_that_is_not_there_is_answered_400_and_a_missing_parameter_422(make: Make) -> None:
    laion = make([1])

    for stage in ("d", "A", "ab", "", "é"):
        assert laion.get("/api/new", stage=stage, nickname="alice").status_code == 400
        assert laion.get("/api/jobCount", stage=stage).status_code == 400
    assert laion.get("/api/new", stage="a").status_code == 422
    assert laion.get("/api/new", nickname="alice").status_code == 422
    assert laion.get("/api/jobCount").status_code == 422
    assert laion.get("/api/new", stage="a", nickname="n" * 129).status_code == 400


def test_without_a_free_job_and_without_a_held_one_the_answer_is_403(make: Make) -> None:
    laion = make([])
    token = laion.new()["token"]

    assert laion.post("newJob", token=token).status_code == 403
    assert laion.post("completeJob", token=token, data="x").status_code == 403
    assert laion.post("flagInvalidData", token=token).status_code == 403


def test_the_count_is_of_jobs_that_are_neither_leased_nor_closed(make: Make) -> None:
    laion = make([1, 2, 3])
    token = laion.new()["token"]
    counts = [laion.get("/api/jobCount", stage="a").text]

    laion.post("newJob", token=token)
    counts.append(laion.get("/api/jobCount", stage="a").text)
    laion.post("completeJob", token=token, data="x")
    counts += [laion.get("/api/jobCount", stage=stage).text for stage in "ab"]

    assert counts == ["3", "2", "2", "1"]


def test_whoever_asks_again_on_purpose_gets_another_job_and_the_first_is_put_back(make: Make) -> None:
    laion = make(["one", "two"])
    token = laion.new()["token"]

    told = [laion.post("newJob", token=token).json()["data"] for _ in range(3)]

    assert told == ["one", "two", "one"]
    assert laion.get("/api/jobCount", stage="a").text == "1"


def test_the_only_job_is_handed_out_again_to_whoever_asks_on_purpose(make: Make) -> None:
    laion = make(["one"])
    token = laion.new()["token"]

    assert [laion.post("newJob", token=token).json()["data"] for _ in range(3)] == ["one"] * 3


def test_a_completion_that_is_sent_again_on_another_connection_counts_once(make: Make) -> None:
    laion = make(["one"])
    token = laion.new()["token"]
    laion.post("newJob", token=token)

    answers = [laion.post("completeJob", session=requests.Session(), token=token, data="x") for _ in range(4)]
    others = laion.post("completeJob", session=requests.Session(), token=token, data="y")

    assert [answer.status_code for answer in answers] == [200] * 4
    assert others.status_code == 403
    assert {row.nickname: row.tasks for row in laion.project.leaderboard()} == {"alice": 1}
    assert laion.project.outputs("a") == {1: "x"}


def test_a_completion_that_is_sent_twice_on_purpose_is_refused(make: Make) -> None:
    laion = make(["one", "two"])
    token = laion.new()["token"]
    laion.post("newJob", token=token)

    assert [laion.post("completeJob", token=token, data="x").status_code for _ in range(2)] == [200, 403]


def test_a_body_of_eight_megabytes_is_taken(make: Make) -> None:
    laion = make(["one"])
    token, data = laion.new()["token"], "ä" * (1 << 22)
    laion.post("newJob", token=token)

    answer = laion.session.post(
        f"{laion.url}/api/completeJob",
        data=json.dumps({"token": token, "data": data}, ensure_ascii=False).encode(),
        headers={"Content-Type": "application/json"},
        timeout=60,
    )

    assert answer.status_code == 200
    assert laion.project.outputs("a") == {1: data}


def test_data_that_python_alone_writes_comes_out_as_it_was(make: Make) -> None:
    laion = make(["one"])
    first, second = laion.new("a")["token"], laion.new("b")["token"]
    data = '<!json!>{"loss": NaN, "most": -Infinity, "name": "caf\\udce9"}'
    laion.post("newJob", token=first)
    laion.post("completeJob", token=first, data=data)

    assert laion.post("newJob", token=second).json()["data"] == data


def test_a_nickname_of_a_token_goes_before_the_one_that_is_given(engine: dcengine.Engine, make: Make) -> None:
    laion = make(["one"])
    spec = TokenSpec(role="worker", project=laion.project.name, nickname="carol")
    laion.url = re.sub("//x:.*@", f"//mallory:{api.current().call('create_token', spec).token}@", laion.url)

    token = laion.new(nickname="mallory")["token"]
    laion.post("newJob", token=token)
    laion.post("completeJob", token=token, data="x")

    assert [row.nickname for row in laion.project.leaderboard()] == ["carol"]


def test_a_wrong_token_is_answered_401_by_a_text_that_says_how_it_goes(make: Make) -> None:
    laion = make([1])
    laion.url = re.sub("//x:.*@", "//x:guess@", laion.url)

    answers = [laion.get("/api/new", stage="a", nickname="x"), laion.post("newJob", token="x"), laion.get("/")]

    assert [answer.status_code for answer in answers] == [401] * 3
    assert "http://nickname:TOKEN@host/p/PROJECT/" in answers[0].text
    assert answers[0].headers["WWW-Authenticate"].startswith("Basic")


def test_the_worker_of_another_project_is_not_known_in_this_one(make: Make) -> None:
    one, other = make([1]), make([2])
    token = one.new()["token"]

    assert other.post("newJob", token=token).status_code == 404
    assert other.post("validateWorker", token=token).text == "False"
    assert other.post("bye", token=token).status_code == 404
    assert one.post("validateWorker", token=token).text == "True"


def test_a_worker_that_says_bye_gives_its_job_back_and_is_gone(make: Make) -> None:
    laion = make(["one"])
    first, second = laion.new()["token"], laion.new()["token"]
    laion.post("newJob", token=first)

    assert [laion.post("bye", token=first).status_code for _ in range(2)] == [200, 404]
    assert laion.post("newJob", token=second).json()["data"] == "one"
    assert len(workers_of(laion)) == 1


# ---- pages ---------------------------------------------------------------------------------


def test_the_pages_show_progress_workers_and_credit(make: Make) -> None:
    laion = make(["one", "two"])
    told = laion.new()
    laion.post("newJob", token=told["token"])
    laion.post("updateProgress", token=told["token"], progress="half of it")
    held = laion.get("/").text
    laion.post("completeJob", token=told["token"], data="x")

    index, board = laion.get("/").text, laion.get("/leaderboard").text
    page = laion.get(f"/worker/cpu/{told['display_name']}").text

    assert "#1" in held
    assert "half of it" in held
    for said in ("<progress", "0 of 2 jobs", "ETA", "CPU: 1 worker", "GPU: 0 workers", told["display_name"], "alice"):
        assert said in index
    assert re.search(r"alice</td><td class=\"number\">1<", board)
    for said in ("first seen", "last seen", "jobs per hour", "alice", "CPU"):
        assert said in page


def test_a_page_that_is_not_there_is_answered_404_and_the_bare_name_leads_to_its_page(make: Make) -> None:
    laion = make([1])
    name = laion.new()["display_name"]

    assert laion.get("/worker/gpu/" + name).status_code == 404
    assert laion.get("/worker/cpu/nobody").status_code == 404
    assert laion.get("/worker/cpu/..%2f..%2fetc").status_code == 404
    assert laion.get("").url.endswith("/p/laion%20" + laion.project.name.split()[1] + "/")


def test_what_workers_say_is_shown_and_does_nothing(make: Make) -> None:
    laion = make(["one"])
    told = laion.new(nickname=NASTY)
    laion.post("newJob", token=told["token"])
    laion.post("updateProgress", token=told["token"], progress=NASTY)
    long = laion.post("updateProgress", token=laion.new()["token"], progress=NASTY * 40_000)
    laion.post("completeJob", token=told["token"], data=NASTY)

    pages = [laion.get(path) for path in ("/", "/leaderboard", f"/worker/cpu/{told['display_name']}")]

    assert long.status_code == 200
    for page in pages:
        assert "&lt;script&gt;" in page.text
        for bad in ("<script", "\u202e", "\x1b", "\x00", "\u200b"):
            assert bad not in page.text
        assert len(page.text) < 10_000
        assert page.headers["Content-Security-Policy"] == "default-src 'self'"
        assert "style=" not in page.text
        assert told["token"] not in page.text


# ---- what time does ------------------------------------------------------------------------


def test_a_silent_worker_is_removed_and_its_job_freed(make: Make) -> None:
    laion = make(["one"], lease_seconds=1)
    silent, other = laion.new()["token"], laion.new()["token"]
    laion.post("newJob", token=silent)

    eventually(lambda: laion.post("newJob", token=other).ok)
    eventually(lambda: laion.post("validateWorker", token=other) and len(workers_of(laion)) == 1)

    assert laion.post("newJob", token=silent).status_code == 404
    assert laion.post("updateProgress", token=silent, progress="still here").status_code == 404
    assert laion.post("validateWorker", token=other).text == "True"


def test_counting_jobs_on_a_new_connection_keeps_idle_workers_and_no_others(make: Make) -> None:
    laion = make(["one"], lease_seconds=1)
    idle, holding = laion.new()["token"], laion.new()["token"]
    laion.post("newJob", token=holding)

    def count_anew() -> bool:
        requests.get(f"{laion.url}/api/jobCount", params={"stage": "a"}, timeout=30)
        return len(workers_of(laion)) == 1

    eventually(count_anew)

    assert laion.post("validateWorker", token=idle).text == "True"
    assert laion.post("validateWorker", token=holding).text == "False"


def workers_of(laion: Laion) -> list[OutsideWorker]:
    found: list[OutsideWorker] = api.current().call("outside_workers", laion.project.name)
    return found
