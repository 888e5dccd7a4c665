"""Projects between client and server, over a real socket."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from dcengine import codec, connection
from dcengine.client import Client
from dcengine.errors import InvalidOption, NotFound, ProjectInUse
from dcengine.verbs import ImportRecord, JobStatus, ProjectStatus, StageSpec
from tests.unit.engine_double import EngineDouble, items_of, project_of

ODD = "100 % ä?&#+'%41;"


@pytest.mark.parametrize("name", ["photos", ODD, "日本"])
async def test_every_verb_of_projects_answers_as_the_engine_does(
    engine: EngineDouble, client: Client, name: str
) -> None:
    declared = await client.declare_project(project_of(name, "first", "the second"))
    added = await client.add_jobs(items_of(name, 1, 2, 3))
    running = await client.run_project(name)
    await engine.end_project(name, 10, 20, 30)
    engine.statuses[7] = JobStatus(id=7, project=name, number=2, name="f", state="open", task_state="queued")

    assert (declared.name, declared.is_paused, running.is_paused) == (name, True, False)
    assert [stage.name for stage in running.stages] == ["first", "the second"]
    assert (added.first_number, added.count) == (1, 3)
    assert await client.project(name) == await engine.project(name)
    assert await client.projects() == [await engine.project(name)]
    outputs = await client.outputs(name, "the second", after=1, limit=1)
    assert [(output.number, codec.loads(output.data)) for output in outputs] == [(2, 20)]
    assert await client.failed_jobs(name) == []
    assert await client.find_job(name, 2) == 7


async def test_a_project_is_waited_for_in_pieces(
    engine: EngineDouble, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "POLL", 0.05)
    await client.declare_project(project_of("photos", "first", "second"))
    await client.add_jobs(items_of("photos", 1))
    waiting = asyncio.ensure_future(client.project("photos", wait=30))
    while engine.questions.count("project") < 5:
        await asyncio.sleep(0.01)
    assert not waiting.done()

    await engine.end_project("photos", 1)

    assert (await waiting).open == 0


async def test_a_wait_that_is_over_returns_the_project_as_it_stands(client: Client) -> None:
    await client.declare_project(project_of("photos", "first"))
    await client.add_jobs(items_of("photos", 1))

    assert (await client.project("photos", wait=0.05)).open == 1
    assert (await client.project("photos", stage="first", wait=0.05)).open == 1


async def test_items_whose_answer_was_lost_are_added_once(engine: EngineDouble, client: Client) -> None:
    await client.declare_project(project_of("photos", "first"))
    submission = msgspec.structs.replace(items_of("photos", 1, 2), request="r1")

    assert await client.add_jobs(submission) == await client.add_jobs(submission)
    assert len(engine.submissions) == 1


async def test_errors_about_projects_are_raised_as_themselves(engine: EngineDouble, client: Client) -> None:
    engine.failing = ProjectInUse("photos", "a, b", 3)
    with pytest.raises(ProjectInUse, match="a, b and 3 open"):
        await client.declare_project(project_of("photos", "first"))
    for ask in (client.project("nobody"), client.run_project("nobody"), client.find_job("nobody", 1)):
        with pytest.raises(NotFound, match="nobody"):
            await ask


async def test_code_that_is_not_what_its_digest_says_is_refused(client: Client) -> None:
    spec = project_of("photos", "first")
    function = msgspec.structs.replace(spec.stages[0].function, digest=b"\0" * 32)
    wrong = msgspec.structs.replace(spec, stages=[msgspec.structs.replace(spec.stages[0], function=function)])

    with pytest.raises(InvalidOption, match="digest"):
        await client.declare_project(wrong)


async def test_items_for_another_project_than_that_of_the_address_are_refused(client: Client) -> None:
    await client.declare_project(project_of("photos", "first"))
    body = msgspec.msgpack.encode(items_of("other", 1))

    with pytest.raises(InvalidOption, match="address"):
        await client._ask("POST", "v1/projects/photos/jobs", body=body)


async def test_an_import_that_has_not_begun_is_none(engine: EngineDouble, client: Client) -> None:
    await client.declare_project(project_of("photos", "first"))
    name = "s3://bucket/{00000..41454}.tar?x=1&y=2#z"
    assert await client.imported("photos", name) is None

    engine.imports[f"photos/{name}"] = ImportRecord(items=5, digest=b"\xff" * 32, updated=1.5)

    assert await client.imported("photos", name) == engine.imports[f"photos/{name}"]
    with pytest.raises(InvalidOption, match=r"\?name"):
        await client.imported("photos", "")
    with pytest.raises(NotFound, match="nobody"):
        await client.imported("nobody", name)


async def test_one_stage_is_paused_and_the_others_go_on(client: Client) -> None:
    await client.declare_project(project_of("photos", "first", "second"))

    paused = await client.pause_project("photos", stage="second")
    running = await client.run_project("photos", stage="second")

    assert [stage.is_paused for stage in paused.stages] == [False, True]
    assert [stage.is_paused for stage in running.stages] == [False, False]
    with pytest.raises(NotFound, match="third"):
        await client.pause_project("photos", stage="third")


async def test_a_lease_stage_is_declared_without_a_function(client: Client) -> None:
    spec = msgspec.structs.replace(project_of("laion"), stages=[StageSpec(name="a", kind="lease", title="CPU")])

    declared = await client.declare_project(spec)

    assert [(stage.kind, stage.title) for stage in declared.stages] == [("lease", "CPU")]


@pytest.mark.parametrize("name", ["", ".", "..", "a/../b", "../jobs", "x" * 101, "a\nb", "\ud800"])
async def test_a_name_that_leads_elsewhere_is_not_found(engine: EngineDouble, client: Client, name: str) -> None:
    questions = (client.project(name), client.run_project(name), client.delete_project(name), client.outputs(name, "a"))
    for question in questions:
        with pytest.raises(NotFound, match="no project"):
            await question
    assert engine.questions == []


@pytest.mark.parametrize("query", ["cancelled=maybe", "cancelled=True", "cancelled="])
async def test_a_retry_must_say_clearly_whether_of_the_cancelled_too(client: Client, query: str) -> None:
    await client.declare_project(project_of("photos", "first"))
    name, _, value = query.partition("=")

    with pytest.raises(InvalidOption, match=r"\?cancelled"):
        await client._post(ProjectStatus, "v1/projects/photos/retry", {name: value})
