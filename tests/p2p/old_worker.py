"""A worker as the old farm had them: ``python -m tests.p2p.old_worker ADDRESS:PORT ID FOLDER [SECONDS]``.

Written from what is known of its protocol. It renders by Debian's Blender, sends each frame once it is saved, and
ignores how Blender ends. It prints a line for each chunk and each frame, after which it rests for so many seconds.
"""

from __future__ import annotations

import base64
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.p2p.old_wire import connected, receive, send

SAVED = re.compile(r"^Saved: '(.*)'")


def main(address: str, id: str, folder: Path, rest: float) -> None:
    line = connected(address)
    send(line, "worker")
    send(line, id)
    while (task := receive(line)) is not None:
        render(line, task["message"], folder, rest)


def render(line: Any, task: dict[str, Any], folder: Path, rest: float) -> None:
    """Render one chunk, and send its frames."""
    scene = folder / task["file_name"]
    scene.write_bytes(base64.b64decode(task["file"]))
    print(f"chunk {task['start_frame']}-{task['end_frame']}", flush=True)
    command = [
        "blender", "-b", str(scene), "-o", f"{folder}/images/", "-F", "PNG", "-x", "1",
        "-s", str(task["start_frame"]), "-e", str(task["end_frame"]), "-a",
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as blender:
        assert blender.stdout is not None
        for said in blender.stdout:
            if saved := SAVED.match(said):
                path = Path(saved[1])
                frame = base64.b64encode(path.read_bytes()).decode()
                os.unlink(path)
                send(line, {"frame": frame, "frame_num": int(path.stem), "fps": task["fps"]})
                print(f"frame {int(path.stem)}", flush=True)
                time.sleep(rest)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), float(sys.argv[4]) if sys.argv[4:] else 0.0)
