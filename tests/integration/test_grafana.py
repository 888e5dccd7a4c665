"""The dashboard for Grafana asks only for what `/metrics` tells."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

import dcengine
from tests.asking import Asker
from tests.engines import embedded

FILE = Path(__file__).resolve().parents[2] / "docs/grafana.json"
EXPRESSION = re.compile(r"\b((?:dcengine|process)_[a-z_]+)\{([^}]*)\}")


@pytest.fixture(scope="module")
def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(FILE.read_text())
    return found


def test_each_panel_asks_for_figures_and_labels_that_there_are(dashboard: dict[str, Any], tmp_path: Path) -> None:
    with embedded(tmp_path / "work.db", workers=1, processes=False) as engine:
        project = dcengine.Project("photos")
        project.lease_stage("look")
        project.add([1])
        dcengine.submit(abs, -1).result(30)
        text = Asker(str(engine.url), engine.token).ask("GET", "/metrics").body.decode()
    told: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            told.setdefault(sample.name, set()).update(sample.labels)
        told.setdefault(f"{family.name}_total" if family.type == "counter" else family.name, set())

    asked = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    for expression in asked:
        found = EXPRESSION.findall(expression)
        assert found, expression
        for name, labels in found:
            assert name in told, name
            if told[name]:
                names = {label.partition("=")[0].rstrip("=~!") for label in labels.split(",")} - {"job", ""}
                assert names <= told[name], (name, names, told[name])


def test_panels_do_not_lie_on_each_other(dashboard: dict[str, Any]) -> None:
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in dashboard["panels"])
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]

    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
