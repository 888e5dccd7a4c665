"""What would stand for a value that the engine keeps, only the engine may say: from callers it is refused."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dcengine.blobs import reference_of
from dcengine.codec import pack, pack_call, pack_function, pack_value
from dcengine.engine.values import STAYS, STAYS_RECORD
from dcengine.errors import InvalidOption
from dcengine.runner.values import Spooled
from dcengine.verbs import BatchSubmission, ItemsSubmission, ProjectSpec, StageSpec, Submission
from tests.driven import Driven

FUNCTION = pack_function(abs)
DIGEST = b"d" * 32
FORGED = {
    "a value outside the file": reference_of(DIGEST, 1 << 21),
    "a result that stays on a worker": STAYS_RECORD.pack(STAYS, DIGEST, 7) + b"w1",
    "a result in a worker's file": Spooled(f"result.{'0' * 32}", DIGEST, 7).packed,
}


@pytest.fixture(scope="module")
def driven() -> Iterator[Driven]:
    driven = Driven()
    driven.call(driven.engine.declare_project(ProjectSpec(name="p", stages=[StageSpec(name="a", function=FUNCTION)])))
    yield driven
    driven.close()


@pytest.fixture(params=FORGED.values(), ids=FORGED)
def forged(request: pytest.FixtureRequest) -> bytes:
    value: bytes = request.param
    return value


def test_it_is_no_input_of_a_call(driven: Driven, forged: bytes) -> None:
    with pytest.raises(InvalidOption, match="a reference to a stored value"):
        driven.call(driven.engine.submit(Submission(function=FUNCTION, input=forged)))


def test_it_is_no_item_of_a_map(driven: Driven, forged: bytes) -> None:
    blocks = [pack([pack_call((1,), {})]), pack([pack_call((2,), {}), forged])]

    with pytest.raises(InvalidOption, match="a reference to a stored value"):
        driven.call(driven.engine.submit_batch(BatchSubmission(function=FUNCTION, blocks=blocks, count=3)))

    assert driven.call(driven.engine.batches()) == []


def test_it_is_no_item_of_a_project_and_no_edited_input(driven: Driven, forged: bytes) -> None:
    value = pack_value(1, what="an item")

    with pytest.raises(InvalidOption, match="a reference to a stored value"):
        driven.call(driven.engine.add_jobs(ItemsSubmission(project="p", blocks=[pack([value, forged])], count=2)))
    job = driven.call(driven.engine.add_jobs(ItemsSubmission(project="p", blocks=[pack([value])], count=1))).first_id
    assert job is not None
    with pytest.raises(InvalidOption, match="a reference to a stored value"):
        driven.call(driven.engine.edit(job, forged))
