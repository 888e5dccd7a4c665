"""Execute the lessons after the quickstart on the dcengine kernel, each into a page. `make lessons` runs this.

Names of lessons, or their beginnings such as 03, choose some of them.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from shutil import which

import nbformat
from demo import FOLDER, console, execute, write_page
from nbclient.exceptions import CellExecutionError

LESSONS = sorted(path for path in Path(__file__).parent.glob("0*.ipynb") if not path.name.startswith("01"))


def main(*chosen: str) -> None:
    """Run the lessons whose names begin as one of *chosen*, all without any; write each down with its pictures."""
    FOLDER.mkdir(exist_ok=True)
    for lesson in LESSONS:
        if not chosen or lesson.name.startswith(chosen):
            run(lesson)


def run(lesson: Path) -> None:
    """Run one *lesson* and say where its page is, or which programs it lacks."""
    started = time.monotonic()
    notebook = nbformat.read(lesson, as_version=4)
    missing = [name for name in notebook.metadata.get("dcengine", {}).get("needs", ()) if which(name) is None]
    if missing:
        console.print(f"{lesson.name} is left out: it needs {' and '.join(missing)}")
        return
    execute(notebook)
    page = FOLDER / f"{lesson.stem}.html"
    write_page(notebook, page, lesson.stem)
    console.print(f"{lesson.name} ran in {time.monotonic() - started:.0f} s: {page}")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except KeyboardInterrupt:
        console.print("\nstopped")
        sys.exit(130)
    except CellExecutionError as error:
        sys.exit(f"lessons: a cell failed\n{error}")
