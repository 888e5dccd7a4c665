from __future__ import annotations

from dcengine.engine import origins
from dcengine.engine.origins import Origins


def test_an_origin_has_work_until_all_of_it_has_ended() -> None:
    open = {1, 2}
    known = Origins()
    known.note("kernel", 1, open)
    known.note("kernel", 2, open)

    assert known.has_open("kernel", open)
    open.remove(1)
    assert known.has_open("kernel", open)
    open.remove(2)
    assert not known.has_open("kernel", open)
    assert not known.has_open("another", open)


def test_what_has_ended_takes_no_memory_however_much_it_was() -> None:
    known = Origins()
    open: set[int] = set()
    for id in range(5 * origins.LOOK_EACH):
        open = {id}
        known.note("kernel", id, open)

    assert len(known._known["kernel"]) <= origins.LOOK_EACH + 3
    assert known.has_open("kernel", open)
