"""What a kernel keeps of what its cells print."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pytest
from IPython.core.history import HistoryOutput

from dcengine_kernel.printed import Printed


def test_what_cells_print_is_kept_in_one_piece_each_and_the_oldest_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dcengine_kernel.printed.LIMIT", 100)
    outputs: defaultdict[int, list[Any]] = defaultdict(list)
    printed = Printed(outputs)
    printed.tidy()
    for number in range(1, 6):
        outputs[number].append(HistoryOutput(output_type="out_stream", bundle={"stream": ["moon\n"] * 8}))
        outputs[number].append(HistoryOutput(output_type="execute_result", bundle={"text/plain": "1"}))
        printed.tidy()

    assert list(outputs) == [4, 5]
    assert outputs[5][0].bundle == {"stream": ["moon\n" * 8]}
    assert outputs[5][1].bundle == {"text/plain": "1"}
