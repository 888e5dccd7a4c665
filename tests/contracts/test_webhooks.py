"""Webhooks of real projects, told to a real receiver: signed, tried three times, lost with no engine."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import re
import runpy
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import dcengine
from dcengine.cli import app
from dcengine.engine import webhooks as delivering
from dcengine.errors import AccessDenied, InvalidOption, NotFound
from dcengine.messenger import Messenger, is_public
from dcengine.store import webhooks as stored
from dcengine.verbs import NewWebhook, TokenSpec, WebhookSpec
from tests.asking import Asker
from tests.engines import embedded, eventually
from tests.receiver import Message, Receiver

DOCS = Path(__file__).resolve().parents[2] / "docs/webhooks.md"
PUBLIC = "93.184.215.14"


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    opened = Receiver().start()
    yield opened
    opened.stop()


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dcengine.Engine]:
    """An engine that may tell this machine, and tries again soon."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(delivering, "BACK_OFF", (0.05, 0.1))
        patch.setattr(delivering, "LOOK_SECONDS", 0.05)
        patch.setattr(delivering, "STALLED_SECONDS", 0.3)
        patch.setattr(delivering, "STALLED_LOOK_SECONDS", 0.1)
        patch.setattr(stored, "ALL_IN_VAIN", 4)
        patch.setattr(stored, "KEPT", 100)
        db = tmp_path_factory.mktemp("webhooks") / "work.db"
        with embedded(db, processes=False, workers=1, private_webhooks=True) as opened:
            yield opened


def ask(verb: str, *args: Any, **options: Any) -> Any:
    return dcengine.api.current().call(verb, *args, **options)


def a_project(name: str, *items: float, retries: int = 0) -> dcengine.Project:
    """A project of two stages, paused, that divides by its items."""
    project = dcengine.Project(name)

    @project.stage(retries=retries)
    def divide(item: float) -> float:
        return 1 / item

    @project.stage
    def negate(item: float) -> float:
        return -item

    project.add(list(items))
    return project


def hook(project: str, url: str, *events: Any) -> NewWebhook:
    spec = WebhookSpec(url=url, events=list(events)) if events else WebhookSpec(url=url)
    made: NewWebhook = ask("add_webhook", project, spec)
    return made


def told(receiver: Receiver, path: str, number: int) -> list[Message]:
    """Return the messages at *path* once there are so many."""
    eventually(lambda: len(receiver.at(path)) >= number)
    return receiver.at(path)


def last_of(project: str, id: int, state: str = "failed") -> Any:
    """Return the newest delivery of a webhook once it is over that way."""
    return eventually(lambda: next((each for each in ask("deliveries", project, id) if each.state == state), None))


# ---- what is told --------------------------------------------------------------------------


def test_a_project_tells_what_becomes_of_its_jobs_and_stages_and_of_itself(
    engine: dcengine.Engine, receiver: Receiver
) -> None:
    project = a_project("all", 2, 0)
    every = ("job_succeeded", "job_failed", "stage_done", "project_done")
    hook("all", receiver.url("/all"), *every)
    project.run()

    found = {f"{m.type} {m.said['data'].get('stage', '')}".strip(): m.said for m in told(receiver, "/all", 5)}
    assert sorted(found) == [
        "job_failed divide", "job_succeeded negate", "project_done", "stage_done divide", "stage_done negate",
    ]  # fmt: skip
    failed = found["job_failed divide"]
    assert failed["data"].pop("job") > 0
    assert failed["data"] == {
        "project": "all", "number": 2, "stage": "divide", "attempt": 1, "worker": "w1",
        "reason": "ZeroDivisionError: division by zero",
    }  # fmt: skip
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", failed["timestamp"])
    assert found["project_done"]["data"] == {"project": "all", "jobs": 2, "succeeded": 1, "failed": 1, "cancelled": 0}
    assert found["stage_done divide"]["data"] == {
        "project": "all", "stage": "divide", "succeeded": 1, "failed": 1, "cancelled": 0,
    }  # fmt: skip


def test_a_webhook_is_told_what_it_asked_for_and_of_its_own_project_alone(
    engine: dcengine.Engine, receiver: Receiver
) -> None:
    one, other = a_project("mine", 0, retries=1), a_project("others", 0)
    hook("mine", receiver.url("/mine"), "job_retried")
    hook("mine", receiver.url("/mine-done"), "project_done")
    other.run().wait()
    one.run().wait()

    told(receiver, "/mine-done", 1)
    (retried,) = told(receiver, "/mine", 1)
    assert retried.type == "job_retried"
    assert retried.said["data"]["project"] == "mine"
    ask("retry_project", "mine")
    assert [message.type for message in told(receiver, "/mine-done", 2)] == ["project_done"] * 2


def test_cancelled_jobs_are_told_too(engine: dcengine.Engine, receiver: Receiver) -> None:
    a_project("dropped", 1, 2)
    hook("dropped", receiver.url("/dropped"), "job_cancelled", "stage_done", "project_done")

    ask("cancel_project", "dropped")

    types = sorted(message.type for message in told(receiver, "/dropped", 4))
    assert types == ["job_cancelled", "job_cancelled", "project_done", "stage_done"]


def test_a_project_whose_tasks_nobody_takes_is_told_once(engine: dcengine.Engine, receiver: Receiver) -> None:
    project = dcengine.Project("stuck")
    project.lease_stage("look")
    project.add([1, 2])
    project.run()
    hook("stuck", receiver.url("/stuck"))

    (message,) = told(receiver, "/stuck", 1)
    time.sleep(1.0)  # several looks long
    assert len(receiver.at("/stuck")) == 1
    assert message.type == "project_stalled"
    assert message.said["data"] == {
        "project": "stuck", "open": 2, "reason": "its tasks are queued, and no worker takes them",
    }  # fmt: skip


# ---- signatures ----------------------------------------------------------------------------


def verifier(folder: Path) -> Callable[[str, Mapping[str, str], bytes], bool]:
    """Return the function that the page shows."""
    (code,) = re.findall(r"^```python\n(.*?)^```", DOCS.read_text(), re.MULTILINE | re.DOTALL)
    script = folder / "verify.py"
    script.write_text(code)
    found: Callable[[str, Mapping[str, str], bytes], bool] = runpy.run_path(str(script))["is_genuine"]
    return found


def test_messages_are_signed_so_that_the_ten_lines_of_the_page_verify_them(
    engine: dcengine.Engine, receiver: Receiver, tmp_path: Path
) -> None:
    a_project("signed")
    made = hook("signed", receiver.url("/signed"))
    assert ask("test_webhook", "signed", made.status.id).state == "delivered"
    (message,) = receiver.at("/signed")

    key = base64.b64decode(made.secret.removeprefix("whsec_"))
    content = f"{message.id}.{message.headers['webhook-timestamp']}.".encode() + message.body
    expected = base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()
    assert message.headers["webhook-signature"] == f"v1,{expected}"
    assert len(key) == 32
    assert message.headers["Content-Type"] == "application/json"
    assert message.type == "test"

    is_genuine = verifier(tmp_path)
    assert is_genuine(made.secret, message.headers, message.body)
    assert not is_genuine(made.secret, message.headers, message.body.replace(b"signed", b"forged"))
    assert not is_genuine(made.secret, {**message.headers, "webhook-id": "msg_other"}, message.body)
    assert not is_genuine(made.secret, {**message.headers, "webhook-timestamp": "1700000000"}, message.body)
    assert not is_genuine("whsec_" + base64.b64encode(bytes(32)).decode(), message.headers, message.body)


# ---- tries ---------------------------------------------------------------------------------


def test_what_is_refused_is_tried_three_times_under_one_id_and_kept_with_the_reason(
    engine: dcengine.Engine, receiver: Receiver
) -> None:
    receiver.statuses["/bad"] = 500
    project = a_project("refused", 1)
    made = hook("refused", receiver.url("/bad"), "project_done")
    project.run()

    messages = told(receiver, "/bad", 3)
    delivery = last_of("refused", made.status.id)
    assert len({message.id for message in messages}) == 1
    assert len({message.body for message in messages}) == 1
    assert (delivery.id, delivery.tries, delivery.status) == (messages[0].id, 3, 500)
    assert delivery.reason == "answered 500: \\x1b[31mno room"
    (status,) = ask("webhooks", "refused")
    assert (status.last, status.pending, status.active) == (delivery, 0, True)
    time.sleep(0.3)
    assert len(receiver.at("/bad")) == 3


def test_a_receiver_that_was_down_is_told_once_it_is_up(
    engine: dcengine.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivering, "BACK_OFF", (0.05, 2.0))
    late = Receiver().start()
    port = late.port
    late.stop()
    project = a_project("down", 1)
    made = hook("down", late.url("/up"), "project_done")
    project.run()

    failing = eventually(
        lambda: next((each for each in ask("deliveries", "down", made.status.id) if each.tries == 2), None)
    )
    assert failing.reason.startswith("cannot be reached")  # type: ignore[attr-defined]
    up = Receiver().start(port)
    try:
        (message,) = told(up, "/up", 1)
        delivery = last_of("down", made.status.id, "delivered")
        assert (delivery.id, delivery.tries, delivery.reason) == (message.id, 3, None)
    finally:
        up.stop()


def test_a_webhook_for_which_all_is_in_vain_is_switched_off_until_it_takes_a_test(
    engine: dcengine.Engine, receiver: Receiver
) -> None:
    receiver.statuses["/off"] = 503
    project = a_project("off", *[1] * 6)
    made = hook("off", receiver.url("/off"), "job_succeeded")
    project.run().wait()

    (status,) = eventually(lambda: [each for each in ask("webhooks", "off") if not each.active])  # type: ignore[misc]
    assert status.reason.startswith("4 deliveries in a row have failed, the last: answered 503")
    assert status.pending == 0
    before = len(ask("deliveries", "off", made.status.id))
    project.add([1])
    project.wait()
    assert len(ask("deliveries", "off", made.status.id)) == before
    assert ask("test_webhook", "off", made.status.id).state == "failed"
    assert not ask("webhooks", "off")[0].active

    receiver.statuses["/off"] = 200
    assert ask("test_webhook", "off", made.status.id).state == "delivered"
    assert ask("webhooks", "off")[0].active
    project.add([1])
    last_of("off", made.status.id, "delivered")


def test_a_receiver_that_is_gone_is_told_nothing_any_more(engine: dcengine.Engine, receiver: Receiver) -> None:
    receiver.statuses["/gone"] = 410
    project = a_project("gone", 1)
    hook("gone", receiver.url("/gone"), "job_succeeded")
    project.run().wait()

    (status,) = eventually(lambda: [each for each in ask("webhooks", "gone") if not each.active])  # type: ignore[misc]
    assert status.reason.startswith("answered 410")
    assert len(receiver.at("/gone")) == 1


def test_of_deliveries_that_are_over_the_newest_hundred_are_kept(engine: dcengine.Engine, receiver: Receiver) -> None:
    project = a_project("many", *range(1, 121))
    made = hook("many", receiver.url("/many"), "job_succeeded")
    project.run().wait()

    told(receiver, "/many", 120)
    eventually(lambda: not ask("webhooks", "many")[0].pending)
    assert len(ask("deliveries", "many", made.status.id, limit=1000)) == 100
    assert len({message.id for message in receiver.at("/many")}) == 120


# ---- receivers that hang, engines that die ---------------------------------------------------


def test_a_hanging_receiver_delays_neither_jobs_nor_other_webhooks(engine: dcengine.Engine, receiver: Receiver) -> None:
    project = a_project("hung", *range(1, 31))
    hanging = [hook("hung", receiver.url(f"/hang-{n}"), "job_succeeded") for n in range(4)]
    hook("hung", receiver.url("/beside"), "project_done")
    began = time.monotonic()

    project.run().wait(timeout=30)
    told(receiver, "/beside", 1)

    assert time.monotonic() - began < delivering_timeout() / 2
    for made in hanging:
        assert ask("webhooks", "hung")[0].pending >= 0
        ask("remove_webhook", "hung", made.status.id)
    assert [status.url for status in ask("webhooks", "hung")] == [receiver.url("/beside")]
    assert sum(len(receiver.at(f"/hang-{n}")) for n in range(4)) <= 4 * delivering.AT_ONCE


def delivering_timeout() -> float:
    from dcengine.messenger import TIMEOUT_SECONDS

    return TIMEOUT_SECONDS


def test_what_is_to_be_told_is_in_the_file_as_soon_as_what_it_tells_of(
    engine: dcengine.Engine, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivering.Webhooks, "_begin_deliveries", lambda *_: None)  # as if killed before the next look
    project = a_project("at-once", *range(1, 21))
    made = hook("at-once", receiver.url("/at-once"), "job_succeeded", "project_done")
    project.run()
    with closing(sqlite3.connect(engine.db)) as reader:
        ended = rows = 0
        while ended < 20:
            ended, rows = reader.execute(
                "SELECT (SELECT coalesce(sum(n), 0) FROM job_counter JOIN project ON project.id = project WHERE"
                " name = 'at-once' AND state <> 0), (SELECT count(*) FROM delivery WHERE webhook = ?)",
                (made.status.id,),
            ).fetchone()
            assert rows == ended + (ended == 20)
    assert rows == 21
    ask("remove_webhook", "at-once", made.status.id)


# ---- where messages may go -------------------------------------------------------------------


def test_redirects_are_not_followed(engine: dcengine.Engine, receiver: Receiver) -> None:
    a_project("moved")
    made = hook("moved", receiver.url("/redirect"))

    delivery = ask("test_webhook", "moved", made.status.id)

    assert (delivery.state, delivery.reason) == ("failed", "answered 307: redirects are not followed")
    assert not receiver.at("/target")


@pytest.mark.parametrize(
    ("address", "public"),
    [
        (PUBLIC, True),
        ("2606:2800:21f:cb07:6820:80da:af6b:8b2c", True),
        ("::ffff:93.184.215.14", True),
        ("127.0.0.1", False),
        ("127.8.8.8", False),
        ("0.0.0.0", False),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::1", False),
        ("::", False),
        ("fe80::1%eth0", False),
        ("fd00:ec2::254", False),
        ("::ffff:169.254.169.254", False),
        ("64:ff9b::a9fe:a9fe", False),
        ("2002:7f00:1::", False),
        ("ff02::1", False),
        ("not an address", False),
    ],
)
def test_an_address_is_public_or_is_not(address: str, public: bool) -> None:
    assert is_public(address) is public


@contextmanager
def names_stand_for(patch: pytest.MonkeyPatch, *answers: str) -> Iterator[None]:
    """Have every name under ``.example`` stand for these addresses, one at each question, the last for good."""
    left, real = list(answers), socket.getaddrinfo

    def look_up(host: str, port: Any, *args: Any, **options: Any) -> Any:
        if not str(host).endswith(".example"):
            return real(host, port, *args, **options)
        address = left.pop(0) if len(left) > 1 else left[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    with patch.context() as inside:
        inside.setattr(socket, "getaddrinfo", look_up)
        yield


def test_private_addresses_are_refused_whatever_name_leads_there(
    tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = receiver.port
    with (
        names_stand_for(monkeypatch, PUBLIC, "127.0.0.1"),
        embedded(tmp_path / "work.db", processes=False, workers=0),
    ):
        a_project("private")
        rebound = hook("private", f"http://rebound.example:{port}/private")  # at first it stands for a public address
        for url in (
            f"http://127.0.0.1:{port}/private",
            f"http://localhost:{port}/private",
            f"http://[::1]:{port}/private",
            f"http://2130706433:{port}/private",
            f"http://0x7f.1:{port}/private",
            f"http://[::ffff:127.0.0.1]:{port}/private",
            "http://169.254.169.254/latest/meta-data/",
            f"https://rebound.example:{port}/private",
        ):
            with pytest.raises(InvalidOption, match="--private-webhooks"):
                hook("private", url)
        delivery = ask("test_webhook", "private", rebound.status.id)

    assert delivery.state == "failed"
    assert delivery.reason == "its address is private, and the setting private_webhooks is off"
    assert not receiver.at("/private")


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "localhost", "a.example"])
async def test_the_address_of_the_connection_itself_is_what_is_looked_at(receiver: Receiver, host: str) -> None:
    def look_up(name: str, port: int) -> Any:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    strict = Messenger(is_private_allowed=False, look_up=look_up)
    try:
        answer = await strict.send(f"http://{host}:{receiver.port}/strict", b"s", "msg_1", b"{}")
    finally:
        await strict.close()

    assert answer.reason == "its address is private, and the setting private_webhooks is off"
    assert not receiver.at("/strict")


@pytest.mark.parametrize(
    "url",
    [
        "", "ftp://example.com/", "file:///etc/passwd", "example.com", "http://", "http://a b/", "http://ä.example/",
        "http://name:word@example.com/", "http://example.com:99999/", "http://example.com/\n", "http://[::1",
        f"https://example.com/{'x' * 2000}",
    ],
)  # fmt: skip
def test_an_address_to_which_nothing_can_be_sent_is_refused(engine: dcengine.Engine, url: str) -> None:
    with pytest.raises(InvalidOption, match="url cannot be"):
        hook("functions", url)


# ---- who may, and what is shown --------------------------------------------------------------


def test_the_secret_is_shown_once_and_logged_never(
    engine: dcengine.Engine, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    receiver.statuses["/secret"] = 500
    project = a_project("secret", 1)
    asker = Asker(str(engine.url), engine.token)
    made = asker.ask("POST", "/v1/projects/secret/webhooks", {"url": receiver.url("/secret?key=of-the-url")}).json
    secret, id = made["secret"], made["status"]["id"]
    assert re.fullmatch(r"whsec_[A-Za-z0-9+/]{43}=", secret)
    project.run().wait()
    eventually(lambda: ask("deliveries", "secret", id))
    path = f"/v1/projects/secret/webhooks/{id}"
    shown = [
        asker.ask("GET", "/v1/projects/secret/webhooks").body,
        asker.ask("GET", f"{path}/deliveries").body,
        asker.ask("POST", f"{path}/test").body,
        asker.ask("GET", "/v1/projects/secret").body,
        asker.ask("GET", "/v1/events?after=0").body,
        asker.ask("DELETE", path).body,
        repr(hook("secret", receiver.url("/other"))).encode(),
        caplog.text.encode(),
        receiver.messages[-1].body,
    ]

    key = base64.b64decode(secret.removeprefix("whsec_"))
    for answer in shown:
        assert secret.removeprefix("whsec_").encode() not in answer
        assert key.hex().encode() not in answer
    assert "of-the-url" not in caplog.text
    assert f"webhook {id} of project 'secret' was added" in caplog.text


@pytest.mark.parametrize("role", ["submit", "view"])
def test_only_administrators_may_look_at_webhooks_or_change_them(
    engine: dcengine.Engine, receiver: Receiver, role: Any
) -> None:
    a_project("guarded")
    made = hook("guarded", receiver.url("/guarded"))
    asker = Asker(str(engine.url), ask("create_token", TokenSpec(role=role)).token)
    path = "/v1/projects/guarded/webhooks"
    answers = [
        asker.ask("POST", path, {"url": receiver.url("/x")}),
        asker.ask("GET", path),
        asker.ask("GET", f"{path}/{made.status.id}/deliveries"),
        asker.ask("POST", f"{path}/{made.status.id}/test"),
        asker.ask("DELETE", f"{path}/{made.status.id}"),
    ]

    assert [answer.status for answer in answers] == [403] * 5
    assert {answer.json["error"] for answer in answers} == {AccessDenied.__name__}
    assert len(ask("webhooks", "guarded")) == 1
    ask("remove_webhook", "guarded", made.status.id)


def test_what_is_not_there_is_not_found(engine: dcengine.Engine, receiver: Receiver) -> None:
    a_project("here")
    made = hook("here", receiver.url("/here"))
    a_project("elsewhere")
    for project, id in (("nowhere", made.status.id), ("elsewhere", made.status.id), ("here", 999)):
        for verb in ("test_webhook", "remove_webhook", "deliveries"):
            with pytest.raises(NotFound):
                ask(verb, project, id)
    for project in ("nowhere", "functions"):
        with pytest.raises(NotFound):
            hook(project, receiver.url("/x"))
    with pytest.raises(InvalidOption, match=r"events cannot be 'all'; expected some of job_succeeded"):
        hook("here", receiver.url("/x"), "all")


def test_a_project_has_at_most_ten(engine: dcengine.Engine, receiver: Receiver) -> None:
    a_project("ten")
    for n in range(10):
        hook("ten", receiver.url(f"/{n}"))
    with pytest.raises(InvalidOption, match="at most 10 for a project and 100 in all"):
        hook("ten", receiver.url("/11"))
    for status in ask("webhooks", "ten"):
        ask("remove_webhook", "ten", status.id)


def test_a_deleted_project_takes_its_webhooks_with_it(engine: dcengine.Engine, receiver: Receiver) -> None:
    receiver.statuses["/leaving"] = 500
    project = a_project("leaving", 1)
    made = hook("leaving", receiver.url("/leaving"), "project_done")
    project.run().wait()
    told(receiver, "/leaving", 1)
    ask("delete_project", "leaving")

    with closing(sqlite3.connect(engine.db)) as reader:
        for table, column in (("webhook", "id"), ("delivery", "webhook")):
            assert reader.execute(f"SELECT count(*) FROM {table} WHERE {column} = ?", (made.status.id,)).fetchone() == (
                0,
            )
    a_project("leaving")
    assert ask("webhooks", "leaving") == []
    assert hook("leaving", receiver.url("/again")).status.id > made.status.id


def test_the_command_line_adds_lists_tests_and_removes(engine: dcengine.Engine, receiver: Receiver) -> None:
    receiver.statuses["/failing"] = 500
    a_project("shell")

    def run(*arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(app, ["webhooks", *arguments, "--url", str(engine.url)])
        return result.exit_code, result.output

    assert "has no webhooks yet" in run("list", "shell")[1]
    code, output = run("add", "shell", receiver.url("/shell"), "--event", "project_done")
    assert code == 0
    assert "is told of project_done" in output
    assert re.search(r"^whsec_\S{44}$", output, re.MULTILINE)
    id = str(ask("webhooks", "shell")[0].id)
    assert "nothing yet" in run("deliveries", "shell", id)[1]
    assert run("test", "shell", id) == (0, f"webhook {id} has taken the test: it answered 204\n")
    assert "test delivered" in run("list", "shell")[1]
    assert "msg_" in run("deliveries", "shell", id)[1]
    assert json.loads(run("list", "shell", "--json")[1])[0]["events"] == ["project_done"]
    _, failing = json.loads(run("add", "shell", receiver.url("/failing"), "--json")[1]).values()
    code, output = run("test", "shell", str(failing["id"]))
    assert code == 1
    assert "answered 500: \\x1b[31mno room" in output
    assert run("remove", "shell", id) == (0, f"webhook {id} of project shell is removed\n")
    assert run("remove", "shell", id)[0] == 1
    code, output = run("add", "shell", receiver.url("/x"), "--event", "all")
    assert code == 1
    assert "one of job_succeeded" in output
