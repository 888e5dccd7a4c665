"""Those who follow the events share what is read of them."""

from __future__ import annotations

import asyncio

import pytest

from dcengine.engine import happenings
from dcengine.engine.happenings import Happenings
from dcengine.verbs import Event


class File:
    """Events as a file has them."""

    def __init__(self) -> None:
        self.newest = 0
        self.reads: list[int] = []

    async def read(self, after: int, limit: int) -> list[Event]:
        self.reads.append(after)
        await asyncio.sleep(0)
        return [Event(seq=seq, at=0.0, kind="leased") for seq in range(after + 1, min(self.newest, after + limit) + 1)]

    async def number(self) -> int:
        return self.newest


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(happenings, "LOOK_SECONDS", 0.01)


def test_all_who_wait_share_one_look() -> None:
    file = File()
    kept = Happenings(file.read, file.number)

    async def follow() -> list[int]:
        while kept.until == 0:
            await kept.look(5)
        return [event.seq for event in await kept.after(0, 100)]

    async def story() -> list[list[int]]:
        followers = [asyncio.create_task(follow()) for _ in range(50)]
        await asyncio.sleep(0.05)
        file.newest = 7
        return await asyncio.gather(*followers)

    assert asyncio.run(story()) == [[1, 2, 3, 4, 5, 6, 7]] * 50
    assert len(file.reads) < 40  # two a look, however many wait


def test_no_more_is_kept_than_is_allowed_and_the_file_has_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(happenings, "KEPT", 10)
    file = File()
    kept = Happenings(file.read, file.number)

    async def story() -> None:
        for newest in range(5, 45, 5):
            file.newest = newest
            await kept.look(5)
        assert kept.until == 40
        file.reads.clear()
        assert [event.seq for event in await kept.after(35, 3)] == [36, 37, 38]
        assert file.reads == []
        assert [event.seq for event in await kept.after(3, 3)] == [4, 5, 6]
        assert file.reads == [3]

    asyncio.run(story())


def test_what_happened_while_nobody_followed_is_not_gone_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(happenings, "KEPT", 10)
    file = File()
    kept = Happenings(file.read, file.number)
    file.newest = 1000

    asyncio.run(kept.look(5))

    assert kept.until == 1000
    assert min(file.reads) == 1000


def test_what_goes_wrong_with_a_look_is_told_to_all_and_the_next_one_is_another() -> None:
    file = File()
    kept = Happenings(file.read, file.number)

    async def broken() -> int:
        raise OSError("gone")

    async def story() -> None:
        kept._newest = broken
        results = await asyncio.gather(kept.look(5), kept.look(5), return_exceptions=True)
        assert [str(result) for result in results] == ["gone", "gone"]
        kept._newest, file.newest = file.number, 1
        await kept.look(5)
        assert kept.until == 1

    asyncio.run(story())
