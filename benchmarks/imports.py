"""What ``import dcengine`` costs over a bare interpreter, and which modules it loads."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from statistics import median
from typing import Any

from .showing import Table, arguments, circumstances, show

ROUNDS, QUICK_ROUNDS = 10, 3
BARE, IMPORT = "pass", "import dcengine"


def milliseconds(statement: str) -> float:
    """Return how long a fresh interpreter takes for *statement*."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True)  # a time-out would poll, and round the time
    return 1000 * (time.perf_counter() - started)


def loaded(statement: str) -> list[str]:
    """Return the modules that *statement* loads, besides those of a bare interpreter, in the order of loading."""
    script = f"import json, sys\nbefore = set(sys.modules)\n{statement}\n"
    script += "print(json.dumps([name for name in sys.modules if name not in before]))"
    answer = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    names: list[str] = json.loads(answer.stdout)
    return names


def run(*, quick: bool) -> dict[str, Any]:
    """Measure with and without the import by turns; return the result."""
    rounds = QUICK_ROUNDS if quick else ROUNDS
    milliseconds(IMPORT)  # the first import writes byte code
    pairs = [(milliseconds(BARE), milliseconds(IMPORT)) for _ in range(rounds)]
    bare, full = (median(column) for column in zip(*pairs, strict=True))
    modules = loaded(IMPORT)
    return {
        **circumstances(),
        "import_over_bare_ms": round(median(b - a for a, b in pairs), 2),
        "bare_ms": round(bare, 2),
        "import_ms": round(full, 2),
        "modules": len(modules),
        "raw": {"modules": modules, "pairs_ms": [[round(a, 2), round(b, 2)] for a, b in pairs], "rounds": rounds},
        "quick": quick,
        "notes": [f"median of {rounds} rounds, by turns", f"loads {', '.join(modules)}"],
    }


def main() -> None:
    options = arguments("What `import dcengine` costs.")
    result = run(quick=options.quick)
    rows = [
        ["a bare interpreter", f"{result['bare_ms']:.1f} ms"],
        [IMPORT, f"{result['import_ms']:.1f} ms"],
        ["the import alone", f"{result['import_over_bare_ms']:.1f} ms"],
        ["modules it loads", str(result["modules"])],
    ]
    show([Table("import dcengine", ["", "median"], rows)], result, as_json=options.json)


if __name__ == "__main__":
    main()
