"""An engine that is killed while webhooks are told: what has happened is told by the next one, under the same id."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import dcengine
from dcengine.verbs import Delivery, WebhookSpec, WebhookStatus
from tests.engines import eventually, serving
from tests.faults.conftest import in_form
from tests.receiver import Receiver

FLAGS = ("--private-webhooks", "--no-kernels", "--threads")
KILLS = in_form(short=2, long=100)
JOBS = in_form(short=40, long=2000)


def half(item: float) -> float:
    time.sleep(0.01)
    return item / 2


def project_with_hook(name: str, url: str, *events: str, jobs: int) -> dcengine.Project:
    project = dcengine.Project(name)
    project.stage(half)
    project.add(list(range(jobs)))
    dcengine.api.current().call("add_webhook", name, WebhookSpec(url=url, events=list(events)))  # type: ignore[arg-type]
    return project


def test_what_an_engine_was_killed_over_is_told_by_the_next_one(tmp_path: Path) -> None:
    db, receiver = tmp_path / "work.db", Receiver().start()
    try:
        with serving(db, *FLAGS, workers=1) as (process, answered):
            dcengine.connect(str(answered["url"]))
            project_with_hook("killed", receiver.url("/hang"), "project_done", jobs=1).run()
            eventually(lambda: receiver.messages)
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
        receiver.released = True
        with serving(db, *FLAGS, workers=0) as (_, answered):
            dcengine.connect(str(answered["url"]))
            eventually(lambda: len(receiver.messages) == 2)
            delivery: Delivery = eventually(  # type: ignore[assignment]
                lambda: next((each for each in told("killed") if each.state == "delivered"), None)
            )
    finally:
        dcengine.connect(None)
        receiver.stop()

    first, second = receiver.messages
    assert (second.id, second.body) == (first.id, first.body)
    assert (delivery.id, delivery.tries) == (first.id, 1)


def told(project: str) -> list[Delivery]:
    found: list[Delivery] = dcengine.api.current().call("deliveries", project, 1)
    return found


def test_however_often_the_engine_is_killed_nothing_stays_untold(tmp_path: Path, dice: random.Random) -> None:
    db, receiver = tmp_path / "work.db", Receiver().start()
    try:
        for kill in range(KILLS):
            with serving(db, *FLAGS, workers=1) as (process, answered):
                dcengine.connect(str(answered["url"]))
                if kill == 0:
                    project_with_hook("many", receiver.url("/"), "job_succeeded", "project_done", jobs=JOBS).run()
                time.sleep(dice.uniform(0.2, 1.0))  # the fault: any moment will do
                os.kill(process.pid, signal.SIGKILL)
                process.wait()
        with serving(db, *FLAGS, workers=1) as (_, answered):
            dcengine.connect(str(answered["url"]))
            eventually(lambda: any(message.type == "project_done" for message in list(receiver.messages)), 120)
            eventually(lambda: not pending("many"))
    finally:
        dcengine.connect(None)
        receiver.stop()

    bodies = {message.id: message.body for message in receiver.messages}
    assert all(bodies[message.id] == message.body for message in receiver.messages)
    numbers = sorted(
        m.said["data"]["number"] for m in {m.id: m for m in receiver.messages}.values() if m.type != "project_done"
    )
    assert numbers == list(range(1, JOBS + 1))


def pending(project: str) -> int:
    (status,) = dcengine.api.current().call("webhooks", project)
    assert isinstance(status, WebhookStatus)
    return status.pending
