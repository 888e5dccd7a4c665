"""Widgets that remote cells make, in a real kernel: the test is the front end, message by message."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import pytest

from tests.engines import serving
from tests.kernels import Executed, Kernel, kernel

VIEW = "application/vnd.jupyter.widget-view+json"
Message = dict[str, Any]


class FrontEnd:
    """What JupyterLab does with widgets: it keeps models, and speaks to the kernel on a subshell."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.subshell = kernel.create_subshell()

    def models(self, request: str) -> dict[str, Message]:
        """The states of the models that execution *request* has opened, by id, as they are by now."""
        states: dict[str, Message] = {}
        for message in self.kernel.said(request):
            content, buffers = message["content"], message.get("buffers") or []
            if message["msg_type"] == "comm_open":
                states[content["comm_id"]] = with_buffers(content["data"], buffers)
            elif message["msg_type"] == "comm_msg" and content["data"].get("method") == "update":
                states[content["comm_id"]].update(with_buffers(content["data"], buffers))
        return states

    def shown(self, request: str, number: int = 0) -> str:
        """Wait for view *number* of *request*; return the id of its model."""
        views: list[str] = []

        def is_view(message: Message) -> bool:
            view = message["content"].get("data", {}).get(VIEW) if "data" in message["content"] else None
            views.extend([view["model_id"]] if view and view["model_id"] not in views else [])
            return len(views) > number

        self.kernel.hear(request, is_view)
        return views[number]

    def send(
        self,
        model: str,
        data: Message,
        *,
        kind: str = "comm_msg",
        content: Mapping[str, str] = MappingProxyType({}),
        metadata: Message | None = None,
        buffers: Sequence[bytes] = (),
        subshell: bool = True,
    ) -> str:
        """Send a message to *model*; return its id."""
        session = self.kernel.client.session
        message = session.msg(kind, {"comm_id": model, "data": data, **content}, metadata=metadata)
        if subshell:
            message["header"]["subshell_id"] = self.subshell
        session.send(self.kernel.client.shell_channel.socket, message, buffers=buffers)
        return str(message["header"]["msg_id"])

    def update(self, model: str, **state: Any) -> str:
        """Set traits of *model*, as somebody does who moves it."""
        return self.send(model, {"method": "update", "state": state, "buffer_paths": []})

    def click(self, model: str) -> str:
        """Click the button *model*."""
        return self.send(model, {"method": "custom", "content": {"event": "click"}})

    def answer(self, request: str, method: str) -> Message:
        """Wait for the message of a comm that says *method* in answer to *request*."""
        return self.kernel.hear(request, lambda said: said["content"].get("data", {}).get("method") == method, 20)


def with_buffers(data: Message, buffers: list[Any]) -> Message:
    state: Message = dict(data["state"])
    for path, buffer in zip(data["buffer_paths"], buffers, strict=True):
        assert len(path) == 1
        state[path[0]] = bytes(buffer)
    return state


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    db = tmp_path_factory.mktemp("engine") / "jobs.db"
    with (
        serving(db, "--workers", "1") as (_, told),
        kernel(tmp_path_factory.mktemp("notebook"), DCENGINE_URL=str(told["url"])) as running,
    ):
        assert running.execute("%load_ext dcengine").reply["status"] == "ok"
        yield running


@pytest.fixture(scope="module")
def front(shared: Kernel) -> FrontEnd:
    return FrontEnd(shared)


@pytest.fixture
def run(shared: Kernel) -> Callable[[str], tuple[str, Executed]]:
    """Run a cell remotely to its end; return its request too."""

    def run(body: str) -> tuple[str, Executed]:
        request = shared.start(f"%%distribute\nimport ipywidgets as w\n{body}")
        done = shared.finish(request)
        assert done.reply["status"] == "ok", done.error
        return request, done

    return run


Run = Callable[[str], tuple[str, Executed]]


# ---- from the worker to the notebook -------------------------------------------------------


def test_a_widget_is_shown_as_one_with_all_its_models(run: Run, front: FrontEnd) -> None:
    request, done = run(
        "s = w.IntSlider(value=3, max=9)\nbox = w.VBox([w.HBox([s]), w.Label('l')])\nbox.layout.width = '9em'\nbox"
    )
    models = front.models(request)
    box = models[front.shown(request)]
    inner, label = (models[child.removeprefix("IPY_MODEL_")] for child in box["children"])
    (slider,) = (models[child.removeprefix("IPY_MODEL_")] for child in inner["children"])

    assert (slider["_model_name"], slider["value"], slider["max"], label["value"]) == ("IntSliderModel", 3, 9, "l")
    assert models[box["layout"].removeprefix("IPY_MODEL_")]["width"] == "9em"
    assert done.contents("execute_result")[0]["data"]["text/plain"].startswith("VBox(")


def test_updates_come_in_order_with_text_and_the_last_one_is_never_lost(run: Run, front: FrontEnd) -> None:
    request, done = run(
        "bar = w.IntProgress(max=2000)\ndisplay(bar)\nfor n in range(2001): bar.value = n\nprint('counted')"
    )

    assert front.models(request)[front.shown(request)]["value"] == 2000
    assert done.kinds.count("comm_msg") < 200, "a fast loop fills no transcript"


def test_binary_state_travels_as_buffers(run: Run, front: FrontEnd) -> None:
    request, _ = run("i = w.Image(value=bytes(range(256)), format='png')\ndisplay(i)\ni.value = b'\\x00new'")

    assert front.models(request)[front.shown(request)]["value"] == b"\x00new"


def test_bars_of_tqdm_notebook_move(run: Run, front: FrontEnd) -> None:
    request, done = run("from tqdm.notebook import tqdm\nfor n in tqdm(range(5), desc='d'): pass")
    bars = [state for state in front.models(request).values() if state["_model_name"] == "FloatProgressModel"]

    assert [(bar["value"], bar["bar_style"]) for bar in bars] == [(5.0, "success")]
    assert front.shown(request) in front.models(request)
    assert done.text("stderr") == ""


def test_an_output_widget_captures_what_its_cell_says(run: Run, front: FrontEnd) -> None:
    request, done = run("out = w.Output()\ndisplay(out)\nwith out:\n    print('inside')\nprint('outside')")
    captured: list[str] = []
    for message in done.messages:
        content = message["content"]
        if message["msg_type"] == "comm_msg" and "msg_id" in content["data"]["state"]:
            captured.append(content["data"]["state"]["msg_id"])
        elif message["msg_type"] == "stream":
            captured.append(content["text"])

    assert captured == [request, "inside\n", "", "outside\n"]


def test_comms_of_any_target_are_relayed(run: Run) -> None:
    _, done = run(
        "from comm import create_comm\nc = create_comm('mine', data={'a': 1}, buffers=[b'b'])\n"
        "c.send([1])\nc.close({'z': 2})\ndel c"
    )
    comms = [m for m in done.messages if m["msg_type"].startswith("comm")]

    assert [m["msg_type"] for m in comms] == ["comm_open", "comm_msg", "comm_close"]
    assert (comms[0]["content"]["target_name"], comms[0]["content"]["data"]) == ("mine", {"a": 1})
    assert bytes(comms[0]["buffers"][0]) == b"b"
    assert comms[2]["content"]["data"] == {"z": 2}


def test_comms_as_older_libraries_make_them_are_relayed(run: Run) -> None:
    _, done = run(
        "from ipykernel.comm import Comm\nimport ipykernel.ipkernel\n"
        "c = Comm(target_name='old', data={'a': 1})\nc.close()\nw.Label('still relayed')\ndel c"
    )

    assert done.contents("comm_open")[0]["target_name"] == "old"
    assert len(done.contents("comm_open")) == 4
    assert len(done.contents("comm_close")) == 1


def test_functions_that_a_cell_imports_for_comms_are_the_notebooks_own_when_they_come_back(
    run: Run, shared: Kernel
) -> None:
    run("from comm import create_comm, get_comm_manager")
    same = shared.execute(
        "import comm, sys\nprint(create_comm is comm.create_comm, get_comm_manager is comm.get_comm_manager,"
        " 'dcengine_magics.cells.remote_comms' in sys.modules)"
    )

    assert same.text() == "True True False\n"


def test_what_comes_back_of_a_widget_has_its_values_and_shows_it_again(
    run: Run, shared: Kernel, front: FrontEnd
) -> None:
    request, done = run("d = w.Dropdown(options=['a', 'b'], value='b')\nd")
    again = shared.execute("print(d.value, d.index)\nd")

    assert again.text() == "b 1\n"
    assert again.contents("execute_result")[0]["data"][VIEW]["model_id"] == front.shown(request)
    assert done.text("stderr") == ""


# ---- from the notebook to the worker -------------------------------------------------------


def test_a_cell_that_waits_for_a_checkbox_goes_on_when_it_is_ticked(shared: Kernel, front: FrontEnd) -> None:
    request = shared.start(
        "%%distribute --timeout 60\nimport time, ipywidgets as w\nstop = w.Checkbox(value=False)\ndisplay(stop)\n"
        "stop.observe(lambda change: print('seen', change['new']), 'value')\n"
        "while not stop.value: time.sleep(0.02)\nprint('over')"
    )
    told = front.update(front.shown(request), value=True)
    done = shared.finish(request)

    assert done.text() == "seen True\nover\n"
    echo = front.answer(told, "echo_update")
    assert echo["content"]["data"]["state"] == {"value": True}
    assert shared.execute("stop.value").contents("execute_result")[0]["data"]["text/plain"] == "True"


def test_clicks_are_heard_in_order_and_each_once(shared: Kernel, front: FrontEnd) -> None:
    request = shared.start(
        "%%distribute --timeout 60\nimport time, ipywidgets as w\nb = w.Button(); t = w.Text()\nheard = []\n"
        "b.on_click(lambda _: heard.append(t.value)); display(b); display(t)\n"
        "while len(heard) < 20: time.sleep(0.02)"
    )
    button, text = front.shown(request), front.shown(request, 1)
    for number in range(20):
        front.update(text, value=str(number))
        front.click(button)
    done = shared.finish(request)

    assert done.reply["status"] == "ok", done.error
    heard = shared.execute("print(heard == [str(n) for n in range(20)], len(heard))").text()
    assert heard == "True 20\n"


def test_a_callback_that_fails_says_so_and_the_cell_goes_on(shared: Kernel, front: FrontEnd) -> None:
    request = shared.start(
        "%%distribute --timeout 60\nimport time, ipywidgets as w\nb = w.Button(); count = [0]\n"
        "def clicked(_):\n    count[0] += 1\n    1 / 0\n"
        "b.on_click(clicked); display(b)\nwhile count[0] < 2: time.sleep(0.02)"
    )
    button = front.shown(request)
    front.click(button)
    front.click(button)
    done = shared.finish(request)

    assert done.reply["status"] == "ok"
    assert "ZeroDivisionError" in done.text("stderr")


def test_binary_messages_reach_the_worker(shared: Kernel, front: FrontEnd) -> None:
    request = shared.start(
        "%%distribute --timeout 60\nimport time\nfrom comm import create_comm\nheard = []\n"
        "c = create_comm('bytes'); c.on_msg(lambda m: heard.append((m['content']['data'], bytes(m['buffers'][0]))))\n"
        "while not heard: time.sleep(0.02)\ndel c"
    )
    opened = shared.hear(request, lambda m: m["msg_type"] == "comm_open")
    front.send(opened["content"]["comm_id"], {"k": [1]}, buffers=[b"\xff\x00"])
    shared.finish(request)

    assert (
        shared.execute("heard").contents("execute_result")[0]["data"]["text/plain"] == "[({'k': [1]}, b'\\xff\\x00')]"
    )


# ---- when the cell has ended ---------------------------------------------------------------


def test_a_widget_keeps_its_state_when_its_cell_has_ended(run: Run, front: FrontEnd) -> None:
    request, _ = run("s = w.IntSlider(value=1)\ns")
    slider = front.shown(request)
    moved = front.update(slider, value=7)
    echo = front.answer(moved, "echo_update")
    asked = front.send(slider, {"method": "request_state"})

    assert echo["content"] == {
        "comm_id": slider,
        "data": {"method": "echo_update", "state": {"value": 7}, "buffer_paths": []},
    }
    assert front.answer(asked, "update")["content"]["data"]["state"]["value"] == 7


def test_a_page_that_is_loaded_again_finds_remote_widgets_beside_the_notebooks_own(
    run: Run, shared: Kernel, front: FrontEnd
) -> None:
    request, _ = run("i = w.Image(value=b'abc')\ni")
    shared.execute("import ipywidgets\nown = ipywidgets.IntText(value=5)")
    control = "control-of-this-page"
    target, metadata = {"target_name": "jupyter.widget.control"}, {"version": "1.0.0"}
    opened = front.send(control, {}, kind="comm_open", content=target, metadata=metadata)
    shared.hear(opened, lambda message: message["content"].get("execution_state") == "idle")
    asked = front.send(control, {"method": "request_states"})
    answer = front.answer(asked, "update_states")
    data, image = answer["content"]["data"], front.shown(request)
    places = [path for path in data["buffer_paths"] if path[0] == image]

    assert data["states"][image]["model_name"] == "ImageModel"
    assert places == [[image, "state", "value"]]
    assert bytes(answer["buffers"][data["buffer_paths"].index(places[0])]) == b"abc"
    assert any(state["state"].get("value") == 5 for state in data["states"].values())


def test_a_click_after_the_end_says_once_that_nobody_answers(run: Run, shared: Kernel, front: FrontEnd) -> None:
    request, _ = run("b = w.Button()\nb")
    button = front.shown(request)
    front.click(button)
    front.click(button)
    front.send(button, {"method": "request_state"})
    note = shared.hear(request, lambda m: m["msg_type"] == "stream")
    front.answer(front.send(button, {"method": "request_state"}), "update")

    assert "the cell that made this widget has ended" in note["content"]["text"]
    assert len([m for m in shared.said(request) if m["msg_type"] == "stream"]) == 1


# ---- what cannot be ------------------------------------------------------------------------


def test_a_target_that_the_front_end_would_open_is_refused_with_a_note(run: Run) -> None:
    _, done = run("from comm import get_comm_manager\nget_comm_manager().register_target('mine', lambda c, m: None)")

    assert "comms that the front end opens cannot be relayed" in done.text("stderr")
    assert "'mine'" in done.text("stderr")


def test_a_widget_too_large_to_be_shown_stays_behind_with_a_note(run: Run) -> None:
    _, done = run("i = w.Image(value=bytes(40 << 20))\ndisplay(i)\ndel i")

    assert "it stays on the worker" in done.text("stderr")
    assert VIEW not in done.contents("display_data")[0]["data"]


def test_a_cell_cannot_speak_for_widgets_of_the_notebook(run: Run, shared: Kernel) -> None:
    shared.execute("import ipywidgets\nmine = ipywidgets.IntText(value=1)\nid = mine.model_id")
    _, done = run(
        "from comm import create_comm\nfrom dcengine_magics.cells.remote_comms import Word, _homes\n"
        "_homes[0]._shown.add(id)\n"
        "_homes[0].say(Word(what='msg', id=id, data={'method': 'update', 'state': {'value': 666}}))\n"
        "c = create_comm('jupyter.widget', comm_id=id, data={'state': {'target': 'IPY_MODEL_' + id}})\n"
        f"display({{'text/plain': 'x', '{VIEW}': {{'model_id': id}}}}, raw=True)\ndel c"
    )

    assert not [m for m in done.messages if m["msg_type"] == "comm_msg"]
    (opened,) = done.contents("comm_open")
    own = shared.execute("print(mine.model_id, mine.comm is not None)").text().split()[0]
    assert own not in str(opened)
    assert own not in str(done.contents("display_data"))


def test_the_output_of_a_job_can_be_replayed_beside_its_own_widgets(run: Run, shared: Kernel, front: FrontEnd) -> None:
    request, _ = run("s = w.IntSlider(value=4)\nbox = w.HBox([s])\nbox")
    replay = shared.start(
        "import dcengine\nfrom dcengine_magics.cells.replay import Replay\n"
        "job = max((job.id for job in dcengine.api.current().call('jobs')))\n"
        "replay = Replay(get_ipython(), get_ipython().execution_count)\n"
        "for line in dcengine.job(job).follow(): replay.say(line)\nreplay.comms.leave()"
    )
    again = shared.finish(replay)
    first, second = front.models(request), front.models(replay)

    assert again.reply["status"] == "ok", again.error
    assert not first.keys() & second.keys()
    box = second[front.shown(replay)]
    assert second[box["children"][0].removeprefix("IPY_MODEL_")]["value"] == 4


def test_a_reload_while_the_cell_runs_is_answered(shared: Kernel, front: FrontEnd) -> None:
    request = shared.start(
        "%%distribute --timeout 60\nimport time, ipywidgets as w\nstop = w.Checkbox(description='here')\nstop\n"
        "display(stop)\n"
        "while not stop.value: time.sleep(0.02)"
    )
    stop = front.shown(request)
    begun = time.monotonic()
    state = front.answer(front.send(stop, {"method": "request_state"}), "update")["content"]["data"]["state"]
    front.update(stop, value=True)

    assert state["description"] == "here"
    assert time.monotonic() - begun < 20
    assert shared.finish(request).reply["status"] == "ok"


def test_widgets_of_a_background_cell_are_heard_while_others_run(shared: Kernel, front: FrontEnd) -> None:
    request = shared.start(
        "%%distribute --background --timeout 60\nimport time, ipywidgets as w\nstop = w.Checkbox()\ndisplay(stop)\n"
        "while not stop.value: time.sleep(0.02)\nprint('over')"
    )
    shared.finish(request)
    stop = front.shown(request)
    assert shared.execute("1 + 1").reply["status"] == "ok"
    front.send(stop, {"method": "update", "state": {"value": True}, "buffer_paths": []}, subshell=False)

    shared.hear(request, lambda message: message["content"].get("text") == "over\n")


def test_widgets_of_a_cell_that_failed_stay_too(shared: Kernel, front: FrontEnd) -> None:
    request = shared.start("%%distribute\nimport ipywidgets as w\ndisplay(w.IntSlider(value=3))\n1 / 0")
    assert shared.finish(request).reply["ename"] == "ZeroDivisionError"
    asked = front.send(front.shown(request), {"method": "request_state"})

    assert front.answer(asked, "update")["content"]["data"]["state"]["value"] == 3


def test_interact_shows_what_its_function_says_for_each_value(shared: Kernel, front: FrontEnd) -> None:
    request = shared.start(
        "%%distribute --timeout 60\nimport time\nfrom ipywidgets import interact\nseen = []\n"
        "def f(x):\n    seen.append(x)\n    print('x is', x)\ninteract(f, x=(0, 9, 1))\n"
        "while len(seen) < 2: time.sleep(0.02)\ntime.sleep(0.2)"
    )
    box = front.models(request) if front.shown(request) else {}
    slider = next(id for id, state in box.items() if state["_model_name"] == "IntSliderModel")
    front.update(slider, value=7)
    done = shared.finish(request)

    assert done.reply["status"] == "ok", done.error
    assert shared.execute("seen").contents("execute_result")[0]["data"]["text/plain"] == "[4, 7]"
    assert "x is 7\n" in done.text()
