"""The unmodified `distcompute-client` 1.0.0 while its server is killed and started again."""

from __future__ import annotations

import signal
from pathlib import Path
from urllib.parse import urlsplit

import dcengine
from tests.engines import eventually, serving
from tests.old_clients import DEADLINE, address_of, project_of, start, told_by

WORK = """
client = connect(sys.argv[1], "a", sys.argv[2])
done = []
while True:
    try:
        client.new_job()
    except ZeroJobError:
        break
    client.log("at it"); time.sleep(0.02)
    client.complete_job({"from": client.job}); done.append(1)
tell([len(done), client.is_alive()])
"""


HOLD = """
client = connect(sys.argv[1], "a", "holder")
client.new_job(); tell("has one"); sys.stdin.readline()
client.complete_job("done by the holder"); tell(client.is_alive())
"""


def test_clients_in_mid_call_and_at_work_outlive_a_server_that_is_killed_and_started_again(tmp_path: Path) -> None:
    names = ["c1", "c2", "c3"]
    with serving(tmp_path / "x.db", workers=0) as (process, told):
        dcengine.connect(str(told["url"]))
        project = project_of([f"job {n}" for n in range(100)], stages="a")
        url = address_of(told["url"], project)
        holder = start(HOLD, url)
        assert holder.stdout is not None
        eventually(lambda: holder.stdout.readline() == 'told:"has one"\n')
        clients = [start(WORK, url, name) for name in names]
        eventually(lambda: project.status().succeeded >= 20)
        process.send_signal(signal.SIGKILL)
        process.wait()
    with serving(tmp_path / "x.db", "--port", str(urlsplit(url).port), workers=0) as (_, told):
        dcengine.connect(str(told["url"]))
        ends = [told_by(client)[0] for client in clients]
        said, _ = holder.communicate("\n", timeout=DEADLINE)

        assert ends == [[done, True] for done, _ in ends]
        assert "told:true" in said
        outputs = project.outputs("a")
        assert outputs.pop(1) == "done by the holder"
        assert outputs == {n + 1: {"from": f"job {n}"} for n in range(1, 100)}
        credit = {row.nickname: row.tasks for row in project.leaderboard()}
        assert credit == {"holder": 1, **{name: done for name, (done, _) in zip(names, ends, strict=True)}}
        dcengine.connect(None)
