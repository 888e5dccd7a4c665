"""What the routes answer, and how they refuse what they cannot read."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from dcengine import codec, errors
from dcengine.server import application
from dcengine.server.answers import STATUS
from dcengine.verbs import BatchStatus, JobStatus, Report, Submission
from tests.unit.engine_double import EngineDouble, Tokens, batch_of, submission_of

Browser = TestClient[web.Request, web.Application]
ADMIN = {"Authorization": "Bearer admin-token"}
MSGPACK = {"Content-Type": "application/msgpack"}
BYTES = {"Content-Type": "application/octet-stream"}


@pytest.fixture
async def browser(engine: EngineDouble) -> AsyncIterator[Browser]:
    app = application(engine, access=Tokens(), submission_limit=4096)
    async with TestClient(TestServer(app), headers=ADMIN) as client:
        yield client


async def post(browser: Browser, path: str, value: Any) -> Any:
    return await browser.post(path, data=msgspec.msgpack.encode(value), headers=MSGPACK)


async def test_a_job_is_submitted_watched_and_its_result_fetched(engine: EngineDouble, browser: Browser) -> None:
    submitted = await post(browser, "/v1/jobs", submission_of(abs, -3))
    job = msgspec.json.decode(await submitted.read(), type=JobStatus)
    early = await browser.get(f"/v1/jobs/{job.id}/result")
    await engine.finish(job.id, 3)
    end = await browser.get(f"/v1/jobs/{job.id}/result")

    assert (submitted.status, early.status, end.status) == (200, 204, 200)
    assert end.content_type == "application/octet-stream"
    assert end.headers["X-Dcengine-State"] == "succeeded"
    assert codec.loads(await end.read()) == 3


async def test_a_result_is_waited_for_as_long_as_asked(engine: EngineDouble, browser: Browser) -> None:
    await post(browser, "/v1/jobs", submission_of())
    question = asyncio.ensure_future(browser.get("/v1/jobs/1/result?wait=50"))
    while "result" not in engine.questions:
        await asyncio.sleep(0)
    assert not question.done()

    await engine.finish(1, "late")

    assert codec.loads(await (await question).read()) == "late"


async def test_failures_of_a_batch_come_with_their_reasons(engine: EngineDouble, browser: Browser) -> None:
    submitted = await post(browser, "/v1/batches", batch_of(codec.pack_function(abs), 4))
    batch = msgspec.json.decode(await submitted.read(), type=BatchStatus)
    for number in range(3):
        await engine.report(batch.id, "failed", number)

    answer = await browser.get(f"/v1/batches/{batch.id}/failures?limit=2")
    assert [item["index"] for item in await answer.json()] == [0, 1]
    assert (await browser.get("/v1/batches/99/failures")).status == 404
    assert (await browser.get("/v1/batches/1/failures?limit=0")).status == 400


async def test_reports_of_a_batch_come_as_msgpack(engine: EngineDouble, browser: Browser) -> None:
    submitted = await post(browser, "/v1/batches", batch_of(codec.pack_function(abs), 3))
    batch = msgspec.json.decode(await submitted.read(), type=BatchStatus)
    await engine.report(batch.id, "succeeded", 0, 1)
    await engine.report(batch.id, "succeeded", 2)

    answer = await browser.get(f"/v1/batches/{batch.id}/reports?after=1")

    reports = msgspec.msgpack.decode(await answer.read(), type=list[Report])
    assert answer.content_type == "application/msgpack"
    assert [(report.cursor, report.first, report.count) for report in reports] == [(2, 2, 1)]


async def test_output_is_text_that_browsers_do_not_run(engine: EngineDouble, browser: Browser) -> None:
    await post(browser, "/v1/jobs", submission_of())
    engine.printed[1] = "<script>\udc80 ü"

    answer = await browser.get("/v1/jobs/1/output")

    assert answer.content_type == "text/plain"
    assert await answer.text() == "<script>\\udc80 ü"


async def test_jobs_are_paged_by_id(browser: Browser) -> None:
    for _ in range(5):
        await post(browser, "/v1/jobs", submission_of())

    page = await (await browser.get("/v1/jobs?before=4&limit=2&state=open")).json()

    assert [job["id"] for job in page] == [3, 2]


GARBAGE = [b"", b"\xc1", b"\x80", b"\x93\x01\x02\x03", msgspec.msgpack.encode({"function": 1}), b"{}", b"\xdd" * 50]


@pytest.mark.parametrize("body", GARBAGE)
@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/batches"])
async def test_a_body_that_is_no_submission_is_refused_with_what_is_missing(
    engine: EngineDouble, browser: Browser, path: str, body: bytes
) -> None:
    answer = await browser.post(path, data=body, headers=MSGPACK)

    problem = await answer.json()
    assert (answer.status, problem["error"]) == (400, "InvalidOption")
    assert "Submission" in problem["message"]
    assert engine.questions == []


async def test_a_submission_must_say_that_it_is_msgpack(browser: Browser) -> None:
    body = msgspec.msgpack.encode(submission_of())

    answer = await browser.post("/v1/jobs", data=body, headers={"Content-Type": "text/plain"})

    assert answer.status == 400
    assert "application/msgpack" in (await answer.json())["message"]


async def test_code_under_a_wrong_digest_is_refused(engine: EngineDouble, browser: Browser) -> None:
    good = submission_of()
    forged = msgspec.structs.replace(good, function=msgspec.structs.replace(good.function, code=b"other code"))

    answer = await post(browser, "/v1/jobs", forged)

    assert answer.status == 400
    assert engine.submissions == []


@pytest.mark.parametrize("announced", [True, False])
async def test_a_body_above_the_limit_is_refused(engine: EngineDouble, browser: Browser, announced: bool) -> None:
    async def in_pieces() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b"x" * 100

    answer = await browser.post("/v1/jobs", data=b"x" * 10_000 if announced else in_pieces(), headers=MSGPACK)

    problem = await answer.json()
    assert (answer.status, problem["error"]) == (413, "PayloadTooLarge")
    assert problem["facts"][2] == 4096
    assert engine.questions == []


@pytest.mark.parametrize(
    "path",
    [
        "/v1/jobs?limit=0",
        "/v1/jobs?limit=1001",
        "/v1/jobs?limit=ten",
        "/v1/jobs?limit=",
        "/v1/jobs?before=-1",
        "/v1/jobs?before=99999999999999999999",
        "/v1/jobs?state=happy",
        "/v1/leaderboard?span=year",
        "/v1/leaderboard?span=",
        "/v1/leaderboard?limit=0",
        "/v1/standing",
        "/v1/standing?nickname=",
        "/v1/standing?nickname=alice&span=Week",
        "/v1/projects/photos/imports",
        "/v1/projects/photos/outputs?limit=1001",
        "/v1/jobs/1/result?wait=nan",
        "/v1/jobs/1/result?wait=-1",
        "/v1/jobs/1/result?wait=soon",
        "/v1/batches/1/reports?after=x",
        "/v1/batches?limit=%F0%9F%8D%95",
    ],
)
async def test_a_query_that_cannot_be_is_refused_and_named(engine: EngineDouble, browser: Browser, path: str) -> None:
    answer = await browser.get(path)

    problem = await answer.json()
    assert (answer.status, problem["error"]) == (400, "InvalidOption")
    assert problem["facts"][0].startswith("?")
    assert engine.questions == []


@pytest.mark.parametrize("id", ["99", "abc", "-1", "1.5", "9" * 40, "%00", "²"])
async def test_an_id_that_is_none_is_not_found(browser: Browser, id: str) -> None:
    for path in (f"/v1/jobs/{id}", f"/v1/batches/{id}"):
        answer = await browser.get(path)

        assert (answer.status, (await answer.json())["error"]) == (404, "NotFound")


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.InvalidTags("a(", 1, "odd"), 400),
        (errors.NotFound("job", 1), 404),
        (errors.InvalidTransition(1, "QUEUED", "SUCCEEDED"), 409),
        (errors.PayloadTooLarge("x", 2, 1), 413),
        (errors.EngineBusy(5), 503),
        (errors.EngineClosed("a.db"), 503),
        (errors.DiskFull("a.db"), 507),
        (errors.OwnershipLost("a.db"), 503),
        (errors.NoMatchingWorker("gpu", "none"), 409),
        (errors.ClusterFailed("the scheduler", "no port"), 503),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
async def test_an_error_of_the_engine_arrives_with_its_facts_and_a_fitting_status(
    engine: EngineDouble, browser: Browser, error: errors.DcengineError, status: int
) -> None:
    engine.failing = error

    answer = await browser.get("/v1/status")

    problem = await answer.json()
    assert answer.status == status
    assert str(errors.rebuild(problem["error"], problem["facts"])) == problem["message"] == str(error)
    assert answer.headers.get("Retry-After") == ("1" if isinstance(error, errors.EngineBusy) else None)


def test_every_error_of_the_tree_has_a_status() -> None:
    known = [
        kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.DcengineError)
    ]

    found = {kind.__name__ for kind in known if not any(issubclass(kind, each) for each, _ in STATUS)}
    assert found == {"DcengineError"}


async def test_an_unforeseen_error_goes_to_the_log_and_not_to_the_caller(
    engine: EngineDouble, browser: Browser, caplog: pytest.LogCaptureFixture
) -> None:
    engine.failing = RuntimeError("the secret recipe")
    with caplog.at_level(logging.ERROR):
        answer = await browser.get("/v1/status?token=admin-token")

    assert answer.status == 500
    assert "recipe" not in await answer.text()
    assert "recipe" in caplog.text
    assert "admin-token" not in caplog.text


async def test_a_wrong_method_names_the_right_ones(browser: Browser) -> None:
    answer = await browser.delete("/v1/jobs/1")

    assert answer.status == 405
    assert "GET" in answer.headers["Allow"]


async def test_readiness_follows_the_engine_and_health_only_the_process(engine: EngineDouble, browser: Browser) -> None:
    before = (await browser.get("/readyz")).status
    engine.closed = True

    assert before == 200
    assert ((await browser.get("/readyz")).status, (await browser.get("/healthz")).status) == (503, 200)


async def test_the_first_page_links_only_to_relative_addresses(browser: Browser) -> None:
    page = await (await browser.get("/", headers={"Authorization": ""})).text()

    links = re.findall(r'(?:href|src)="([^"]+)"', page)
    assert "ui/app.js" in links
    assert [link for link in links if link.startswith("/") or "://" in link] == []


async def test_a_job_is_edited_with_the_bytes_that_are_sent(engine: EngineDouble, browser: Browser) -> None:
    await post(browser, "/v1/jobs", submission_of())
    await engine.end(1, "failed", b"")

    for value in (codec.dumps({"a": 1}), b'J{"a": 1}'):
        answer = await browser.post("/v1/jobs/1/edit", data=value, headers=BYTES)

        assert (answer.status, (await answer.json())["task_state"]) == (200, "queued")
        assert engine.inputs[1] == value


# The last would be taken for a reference to a value that is somebody else's.
@pytest.mark.parametrize("value", [b"", b"{}", b"\x00", b"B" + b"\0" * 40])
async def test_an_input_that_is_no_packed_value_is_refused(
    engine: EngineDouble, browser: Browser, value: bytes
) -> None:
    await post(browser, "/v1/jobs", submission_of())

    answer = await browser.post("/v1/jobs/1/edit", data=value, headers=BYTES)

    assert (answer.status, (await answer.json())["error"]) == (400, "InvalidOption")
    assert engine.inputs == {}


async def test_an_input_above_the_limit_or_of_another_type_is_refused(engine: EngineDouble, browser: Browser) -> None:
    await post(browser, "/v1/jobs", submission_of())

    large = await browser.post("/v1/jobs/1/edit", data=b"J" + b"1" * 5000, headers=BYTES)
    other = await browser.post("/v1/jobs/1/edit", data=b"J1", headers={"Content-Type": "text/plain"})

    assert (large.status, other.status) == (413, 400)
    assert engine.inputs == {}


IDS = [b"", b"1", b"{}", b'["1"]', b"[1.5]", b"[-1]", b"[99999999999999999999]", b"[true]", b"[null]", b"\xff"]


@pytest.mark.parametrize("body", [*IDS, b"[%s]" % b",".join([b"1"] * 1001)], ids=lambda body: repr(body[:12]))
async def test_ids_that_cannot_be_are_refused(engine: EngineDouble, browser: Browser, body: bytes) -> None:
    answer = await browser.post("/v1/jobs/retry", data=body, headers={"Content-Type": "application/json"})

    problem = await answer.json()
    assert (answer.status, problem["error"]) == (400, "InvalidOption")
    assert "ids of jobs" in problem["message"]
    assert engine.questions == []


async def test_a_body_nested_without_end_is_refused(engine: EngineDouble, browser: Browser) -> None:
    deep = b"\x81\xa1x" + b"\x91" * 4000

    answer = await browser.post("/v1/jobs", data=deep, headers=MSGPACK)

    assert answer.status == 400
    assert engine.questions == []


async def test_all_fields_of_a_submission_arrive(engine: EngineDouble, browser: Browser) -> None:
    sent = submission_of(abs, 1, key="k", request="r", submitter="me")

    await post(browser, "/v1/jobs", sent)

    assert engine.submissions == [sent]
    assert isinstance(engine.submissions[0], Submission)
