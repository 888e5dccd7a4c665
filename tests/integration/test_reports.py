"""What outside workers report, many tasks in one request: each has an answer of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from dcengine.blobs import ROW_LIMIT
from dcengine.cluster import ClusterSettings
from dcengine.codec import pack, pack_json
from dcengine.engine import Engine, reports
from dcengine.errors import DiskFull
from dcengine.verbs import Completion, ItemsSubmission, LeasedTask, LeaseRequest, ProjectSpec, StageSpec, TaskFlag


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[Engine]:
    engine = Engine(tmp_path / "x.db", ClusterSettings(workers=0, processes=False))
    await engine.start()
    await engine.declare_project(ProjectSpec(name="p", stages=[StageSpec(name="a", kind="lease", credit="units")]))
    block = pack([pack_json(number, what="an item") for number in range(5)])
    await engine.add_jobs(ItemsSubmission(project="p", blocks=[block], count=5))
    await engine.run_project("p")
    yield engine
    await engine.close()


async def leased(engine: Engine, n: int) -> list[LeasedTask]:
    return await engine.lease(LeaseRequest(project="p", stage="a", worker="w", nickname="al", n=n))


def done(task: LeasedTask, output: bytes = b"1", units: int | None = None) -> Completion:
    return Completion(token=task.token, output=msgspec.Raw(output), units=units)


async def succeeded(engine: Engine) -> int:
    return (await engine.project("p")).succeeded


async def test_what_one_request_says_twice_counts_once(engine: Engine) -> None:
    one, other = await leased(engine, 2)

    answers = await engine.complete([done(one), done(other), done(one)])

    assert [answer.is_accepted for answer in answers] == [True, True, True]
    assert await succeeded(engine) == 2


async def test_of_several_reports_a_bad_one_is_refused_alone(engine: Engine) -> None:
    one, bad, other = await leased(engine, 3)

    answers = await engine.complete([done(one), done(bad, units=-1), Completion(token="0-0-1"), done(other)])

    assert [answer.is_accepted for answer in answers] == [True, False, False, True]
    assert "units" in answers[1].problem
    assert (await engine.complete([done(bad)]))[0].is_accepted, "it was held on"


async def test_what_finds_no_room_is_held_on_and_the_others_count(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, large, other = await leased(engine, 3)

    async def full(data: bytes) -> bytes:
        if len(data) > ROW_LIMIT:
            raise DiskFull("blobs")
        return data

    with monkeypatch.context() as patched:
        patched.setattr(engine._values, "keep", full)
        patched.setattr(reports, "PATIENCE_SECONDS", 0.0)
        with pytest.raises(DiskFull):
            await engine.complete([done(one), done(large, b'"%b"' % (b"x" * ROW_LIMIT)), done(other)])

    assert await succeeded(engine) == 2
    answers = await engine.complete([done(one), done(large), done(other)])
    assert [answer.is_accepted for answer in answers] == [True, True, True]
    assert await succeeded(engine) == 3


async def test_who_flags_several_inputs_at_once_is_handed_none_of_them_again(engine: Engine) -> None:
    one, other = await leased(engine, 2)

    answers = await engine.flag([TaskFlag(token=each.token, reason="404") for each in (one, other, one)])

    assert [answer.is_accepted for answer in answers] == [True, True, True]
    assert {task.number for task in await leased(engine, 5)}.isdisjoint({one.number, other.number})
