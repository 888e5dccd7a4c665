"""What a front end makes of a kernel's messages: outputs that change, widgets in them, and what somebody does there."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from html import unescape
from typing import Any

from .kernels import PATIENCE, Kernel

WIDGET = "application/vnd.jupyter.widget-view+json"
REFERENCE = "IPY_MODEL_"


class Screen:
    """A notebook at which somebody sits, on a kernel."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._folded = 0
        self._outputs: dict[str, dict[str, Any]] = {}  #: by display id
        self._cells: dict[str, list[str]] = {}  #: the display ids of each request, in order
        self._widgets: dict[str, dict[str, Any]] = {}  #: their states, by the ids of their comms

    def run(self, code: str, cell: str = "") -> str:
        """Run *code* as front ends do for somebody who can be asked; return what tells the cell from others."""
        message = self._kernel.client.session.msg(
            "execute_request",
            {"code": code, "silent": False, "store_history": True, "user_expressions": {}, "allow_stdin": True,
             "stop_on_error": True},
            metadata={"cellId": cell} if cell else {},
        )  # fmt: skip
        self._kernel.client.shell_channel.send(message)
        request = str(message["header"]["msg_id"])
        executed = self._kernel.finish(request)
        assert not executed.error, executed.error
        return request

    # ---- what is seen ----------------------------------------------------------------------

    def outputs(self, cell: str) -> list[dict[str, Any]]:
        """Return what stands below *cell* now, by mime type."""
        self._fold()
        return [self._outputs[id] for id in self._cells.get(cell, [])]

    def seen(self, cell: str) -> str:
        """Return all HTML that is seen below *cell*: that of widgets, and that of outputs without."""
        parts = []
        for data in self.outputs(cell):
            if WIDGET in data:
                parts += [str(state["value"]) for state in self._below(data) if state["_model_name"] == "HTMLModel"]
            else:
                parts.append(data.get("text/html", ""))
        return "\n".join(parts)

    def says(self, cell: str, text: str) -> bool:
        """Tell whether *text* is to be read below *cell*."""
        return text in _read(self.seen(cell))

    def labels(self, cell: str) -> list[str]:
        """Return the labels of the buttons that can be pressed below *cell*."""
        return [state["description"] for state in self._controls(cell, "ButtonModel") if not state["disabled"]]

    def choices(self, cell: str, label: str) -> list[str]:
        """Return what can be chosen in the list called *label*."""
        return list(self._control(cell, label)["_options_labels"])

    def boxes(self, cell: str) -> list[str]:
        """Return the ids of the widgets that stand below *cell*, the outermost of each output."""
        ids = [data[WIDGET]["model_id"] for data in self.outputs(cell) if WIDGET in data]
        return [id for id in ids if id in self._widgets]

    def text_of(self, box: str) -> str:
        """Return what is to be read in a widget."""
        self._fold()
        return _read("\n".join(str(state["value"]) for state in self._within(box) if "value" in state))

    def until(self, condition: Callable[[], object], patience: float = PATIENCE) -> None:
        """Listen to the kernel until *condition* comes true."""
        deadline = time.monotonic() + patience
        while not condition():
            assert time.monotonic() < deadline, f"it did not come true in {patience:g} s"
            self._kernel.listen(0.2)

    # ---- what is done ----------------------------------------------------------------------

    def press(self, cell: str, label: str, **header: str) -> None:
        """Press the button called *label* below *cell*."""
        self.until(lambda: any(each.startswith(label) for each in self.labels(cell)))
        button = self._control(cell, label)
        self._say(button["id"], {"method": "custom", "content": {"event": "click"}, "buffers": []}, header)

    def type(self, cell: str, label: str, text: str) -> None:
        """Type *text* into the box called *label*, and press Enter."""
        self._say(self._control(cell, label)["id"], {"method": "update", "state": {"value": text}, "buffer_paths": []})

    def choose(self, cell: str, label: str, wanted: str) -> None:
        """Choose the first that has *wanted* in it from the list called *label*."""
        place = next(n for n, each in enumerate(self.choices(cell, label)) if wanted in each)
        self._say(self._control(cell, label)["id"], {"method": "update", "state": {"index": place}, "buffer_paths": []})

    def _say(self, id: str, data: dict[str, Any], header: dict[str, str] | None = None) -> None:
        message = self._kernel.client.session.msg("comm_msg", {"comm_id": id, "data": data})
        message["header"].update(header or {})
        self._kernel.client.shell_channel.send(message)

    # ---- what the kernel said --------------------------------------------------------------

    def _fold(self) -> None:
        for message in self._kernel.heard[self._folded :]:
            content, kind = message["content"], message["msg_type"]
            if kind in ("display_data", "update_display_data"):
                id = content.get("transient", {}).get("display_id", message["header"]["msg_id"])
                self._outputs[id] = content["data"]
                if kind == "display_data":
                    self._cells.setdefault(message["parent_header"]["msg_id"], []).append(id)
            elif kind == "comm_open":
                self._widgets[content["comm_id"]] = {**content["data"]["state"], "id": content["comm_id"]}
            elif kind == "comm_msg" and content["comm_id"] in self._widgets:
                self._widgets[content["comm_id"]].update(content["data"].get("state", {}))
            elif kind == "comm_close":
                self._widgets.pop(content["comm_id"], None)
        self._folded = len(self._kernel.heard)

    def _below(self, data: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the widgets in an output, in order."""
        return self._within(data[WIDGET]["model_id"])

    def _within(self, id: str) -> list[dict[str, Any]]:
        state = self._widgets.get(id)
        if state is None:
            return []
        children = [each.removeprefix(REFERENCE) for each in state.get("children", [])]
        return [state, *(found for child in children for found in self._within(child))]

    def _controls(self, cell: str, model: str = "") -> list[dict[str, Any]]:
        widgets = [state for data in self.outputs(cell) if WIDGET in data for state in self._below(data)]
        return [state for state in widgets if model in ("", state["_model_name"])]

    def _control(self, cell: str, label: str) -> dict[str, Any]:
        return next(state for state in self._controls(cell) if (state.get("description") or "").startswith(label))


def _read(html: str) -> str:
    """Return what is to be read in *html*."""
    text = unescape(re.sub(r"<[^>]+>", " ", html))
    return re.sub(r"\s+([,.])", r"\1", " ".join(text.split()))
