from pathlib import Path
from typing import Any

from dcengine.testing import WorkloadSuite


class TestWordcount(WorkloadSuite):
    name = "wordcount"

    def sample(self, folder: Path) -> dict[str, Any]:
        text = folder / "whale.txt"
        text.write_text("Call me Ishmael.\nCall me\n")
        return {"texts": [text], "out": folder / "words.csv"}
