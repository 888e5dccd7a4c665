from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_imports_go_down_only() -> None:
    program = Path(sys.executable).parent / "lint-imports"
    answer = subprocess.run([program, "--no-cache"], cwd=ROOT, capture_output=True, text=True, timeout=100)

    assert answer.returncode == 0, answer.stdout + answer.stderr
