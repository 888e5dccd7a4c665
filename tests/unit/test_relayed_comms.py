"""What a notebook's kernel takes from workers that speak for widgets, whatever they say."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("comm")

from comm.base_comm import CommManager

from dcengine.runner.displays import WIDGET_VIEW
from dcengine_magics.cells.comms import RelayedComms


class Session:
    """Keeps what is sent."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, Any]] = []

    def send(self, socket: object, kind: str, content: Any, **_: object) -> None:
        self.sent.append((kind, content))


@pytest.fixture
def session() -> Session:
    return Session()


@pytest.fixture
def comms(session: Session) -> RelayedComms:
    kernel = SimpleNamespace(comm_manager=CommManager(), session=session, iopub_socket=None)
    shell: Any = SimpleNamespace(kernel=kernel, get_parent=lambda: {"header": {"msg_id": "the cell"}})
    return RelayedComms(shell)


def opening(id: str = "m", **state: Any) -> str:
    return json.dumps({"what": "open", "id": id, "target": "jupyter.widget", "data": {"state": state}})


def message(state: Any, id: str = "m") -> str:
    return json.dumps({"what": "msg", "id": id, "data": {"method": "update", "state": state}})


@pytest.mark.parametrize(
    "text",
    ["", "no json", "[]", "{}", '{"what": "open"}', '{"what": "burn", "id": "m"}', '{"what": "open", "id": 7}',
     '{"what": "open", "id": ""}', json.dumps({"what": "open", "id": "x" * 201}), '{"what": "open", "id": "n\\u00f6"}',
     '{"what": "open", "id": "a b"}', '{"what": "open", "id": "m", "buffers": ["?"]}',
     '{"what": "msg", "id": "nobody"}', '{"what": "close", "id": "nobody"}',
     '{"what": "open", "id": "m", "data": ' + "[" * 100_000 + "]" * 100_000 + "}"],
)  # fmt: skip
def test_nonsense_is_passed_over(comms: RelayedComms, session: Session, text: str) -> None:
    comms.say(text)

    assert session.sent == []


@pytest.mark.parametrize("state", [None, 1, [], {"a": None}, {"_model_name": []}, {"msg_id": 5}])
def test_odd_states_are_passed_on_and_do_no_harm(comms: RelayedComms, session: Session, state: Any) -> None:
    comms.say(opening(value=1))
    comms.say(message(state))

    assert [kind for kind, _ in session.sent] == ["comm_open", "comm_msg"]
    assert session.sent[1][1]["data"]["state"] == state


def test_a_widget_captures_the_output_of_its_own_cell_and_no_other(comms: RelayedComms, session: Session) -> None:
    comms.say(opening(msg_id="dcengine:cell"))
    comms.say(message({"msg_id": "another cell"}))

    assert [content["data"]["state"]["msg_id"] for _, content in session.sent] == ["the cell", ""]


def test_a_view_is_shown_only_of_a_widget_of_the_worker(comms: RelayedComms) -> None:
    comms.say(opening("mine"))
    view = {"model_id": "mine", "version_major": 2}

    assert comms.shown({WIDGET_VIEW: view, "text/plain": "x"}) == {WIDGET_VIEW: view, "text/plain": "x"}
    for foreign in ({"model_id": "other"}, {"model_id": ["mine"]}, {}, "mine", 5):
        assert comms.shown({WIDGET_VIEW: foreign, "text/plain": "x"}) == {"text/plain": "x"}


def test_a_comm_is_opened_once(comms: RelayedComms, session: Session) -> None:
    comms.say(opening())
    comms.say(opening())

    assert len(session.sent) == 1
