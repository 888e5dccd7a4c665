"""A client as the old farm had them: ``python -m tests.p2p.old_client ADDRESS:PORT ID SCENE FIRST LAST FPS FOLDER``.

Written from what is known of its protocol. It prints what it is told, and puts zip and movie into its folder.
"""

from __future__ import annotations

import base64
import sys
from pathlib import Path

from tests.p2p.old_wire import connected, receive, send


def main(address: str, id: str, scene: Path, first: int, last: int, fps: int, folder: Path) -> None:
    line = connected(address)
    send(line, "commander")
    send(line, id)
    file = base64.b64encode(scene.read_bytes()).decode()
    send(line, {"file_name": scene.name, "file": file, "start_frame": first, "end_frame": last, "fps": fps})
    while (said := receive(line)) is not None:
        if "message" in said:
            print(said["message"], flush=True)
            if said["message"] == "failed":
                sys.exit(said["error"])
            continue
        for name, content in (("file_name", "file"), ("video_name", "video")):
            (folder / said[name]).write_bytes(base64.b64decode(said[content]))
        print(",".join(said), flush=True)
        return


if __name__ == "__main__":
    address, id, scene, first, last, fps, folder = sys.argv[1:]
    main(address, id, Path(scene), int(first), int(last), int(fps), Path(folder))
