"""What anybody may say below ``/p/PROJECT/`` without a token: it is text on the pages there, and leads nowhere."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator
from urllib.parse import quote

import pytest
from typer.testing import CliRunner

import dcengine
from dcengine.cli import app
from dcengine.codec import pack, pack_json
from dcengine.verbs import ItemsSubmission, ProjectSpec, StageSpec
from tests.attacks import Target
from tests.contracts.test_security_requests import ELSEWHERE, EVIL, GARBLED
from tests.contracts.test_security_texts import NASTY, check_page, check_terminal
from tests.engines import embedded

CALLS = ("validateWorker", "newJob", "updateProgress", "completeJob", "flagInvalidData", "bye")
PLACES = (
    "/p/{}/", "/p/{}", "/p/open/{}", "/p/open/api/{}", "/p/open/worker/{}/x", "/p/open/worker/a/{}",
    "/p/open/api/new?stage={}&nickname=x", "/p/open/api/jobCount?stage={}", "/p/{}/api/new?stage=a&nickname=x",
)  # fmt: skip


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    with embedded(
        tmp_path_factory.mktemp("old") / "work.db", processes=False, workers=0, volunteer_rate=1000.0
    ) as engine:
        for name, is_open in (("open", True), ("closed", False)):
            stages = [StageSpec(name=stage, kind="lease", title=f"<i>{stage}") for stage in "ab"]
            spec = ProjectSpec(name=name, stages=stages, protocol="distcompute", is_open=is_open)
            engine._link.call("declare_project", spec)
            block = pack([pack_json(text, what="an item") for text in NASTY.values()])
            engine._link.call("add_jobs", ItemsSubmission(project=name, blocks=[block], count=len(NASTY)))
            engine._link.call("run_project", name)
        yield Target(engine.url)


def call(target: Target, name: str, body: object) -> tuple[int, str]:
    return said(target, "POST", f"/p/open/api/{name}", json.dumps(body).encode())


def said(target: Target, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, str]:
    """Ask as a volunteer does; return status and text."""
    (reply,) = target.say(target.request(method, path, body, **{"Authorization": "", **headers}))
    return reply.status, reply.body.decode()


@pytest.fixture(scope="module")
def workers(target: Target) -> dict[str, tuple[str, str]]:
    """Workers of all nasty nicknames, each with a job done, one in its hands, and nasty progress: token and name."""
    found = {}
    for kind, text in NASTY.items():
        status, answer = said(target, "GET", f"/p/open/api/new?stage=a&nickname={quote(text[:100])}")
        assert status in (200, 400, 403), (kind, answer)
        if status == 200:
            new = json.loads(answer)
            found[kind] = new["token"], new["display_name"]
            assert call(target, "newJob", {"token": new["token"]})[0] in (200, 403)
            assert call(target, "updateProgress", {"token": new["token"], "progress": text})[0] in (200, 422)
            if kind in ("script", "lines", "steering"):
                assert call(target, "completeJob", {"token": new["token"], "data": text})[0] in (200, 403)
    assert "script" in found
    return found


@pytest.mark.parametrize("path", ["/p/open/", "/p/open/leaderboard"])
def test_a_page_shows_what_volunteers_say_and_runs_none_of_it(
    target: Target, workers: dict[str, tuple[str, str]], path: str
) -> None:
    status, page = said(target, "GET", path)

    assert status == 200
    check_old_page(page)
    assert "&lt;script&gt;" in page


def test_a_workers_page_shows_what_it_says_and_runs_none_of_it(
    target: Target, workers: dict[str, tuple[str, str]]
) -> None:
    for _, name in workers.values():
        status, page = said(target, "GET", f"/p/open/worker/{quote('<i>a', safe='')}/{name}")
        assert status == 200
        check_old_page(page)


def check_old_page(page: str) -> None:
    """Check a page as others are, but for its own links and style."""
    head, _, body = page.partition("<body")
    plain = body or page
    for own in ('<a href="', "<a href='", '<link rel="stylesheet"'):
        plain = plain.replace(own, "<b title=" + own[-1] if own.startswith("<a") else "<b title=")
    check_page(plain.replace("</a>", "</b>"))
    assert "javascript:" not in page.lower()
    assert "<script" not in head.lower()


def test_a_terminal_shows_them_too(target: Target, workers: dict[str, tuple[str, str]]) -> None:
    for arguments in (["workers", "list"], ["workers"], ["leaderboard", "open"], ["jobs", "list", "--project", "open"]):
        check_terminal(CliRunner().invoke(app, arguments).output)


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize(
    "body",
    [
        b"", b"[]", b"null", b'"x"', b"{", b'{"token": null}', b'{"token": 1}', b'{"token": ["x"]}', b'{"token": {}}',
        b'{"token": "guess"}', b'{"token": "\\u0000"}', b'{"token": "\\ud800"}', b'{"token": "x", "progress": null}',
        b'{"token": "x", "data": {"a": 1}}', b'{"token": "%s"}' % (b"x" * 1_000_000), b"[" * 100_000,
        b'{"token": "x", "data": ' + b"[" * 100_000, b'{"token": "x", "data": "<!json!>' + b"[" * 100_000 + b'"}',
        b'{"token": "x", "data": "<!json!>{\\"a\\": NaN}"}', b"\x80\x05N.", b"\xff\xfe", b"a=b&c=d",
    ],
    ids=lambda body: ascii(body[:40]),
)  # fmt: skip
def test_garbage_ends_in_a_refusal_that_old_clients_know(target: Target, name: str, body: bytes) -> None:
    status, text = said(target, "POST", f"/p/open/api/{name}", body)

    allowed = (200, 400, 403, 404, 413, 415, 422)
    assert status in allowed
    assert status != 200 or text == "False"
    assert len(text) < 1000


def test_json_without_end_in_a_real_workers_output_stays_text(target: Target) -> None:
    admin = as_admin(target)
    new = json.loads(said(target, "GET", "/p/closed/api/new?stage=a&nickname=deep", **admin)[1])
    for data, taken in (("<!json!>" + "[" * 50_000, False), ("[" * 50_000, True), ('<!json!>"\\ud800"', True)):
        asked = json.dumps({"token": new["token"]}).encode()
        assert said(target, "POST", "/p/closed/api/newJob", asked, **admin)[0] == 200
        body = json.dumps({"token": new["token"], "data": data}).encode()
        status, text = said(target, "POST", "/p/closed/api/completeJob", body, **admin)
        assert (status == 200) >= taken, text
        assert status in (200, 400, 422)


def as_admin(target: Target) -> dict[str, str]:
    return {"Authorization": f"Bearer {target.token}"}


@pytest.mark.parametrize("place", PLACES)
def test_no_address_leads_elsewhere(target: Target, place: str) -> None:
    for value in ELSEWHERE:
        for method in ("GET", "POST"):
            (reply,) = target.say(target.request(method, place.format(value), b"{}" if method == "POST" else b""))
            assert 300 <= reply.status < 500, (value, method)
            assert reply.status >= 400 or reply.status == 308
            assert b"root:" not in reply.body
            assert "set-cookie" not in reply.head.lower()
            assert "javascript" not in reply.head.lower()


@pytest.mark.parametrize("path", ["/p/closed/", "/p/closed/leaderboard", "/p/closed/api/new?stage=a&nickname=x"])
def test_a_project_that_is_not_open_asks_for_a_token(target: Target, path: str) -> None:
    status, text = said(target, "GET", path)

    assert status == 401
    assert "closed" not in text.replace(path, "") or "token" in text
    assert said(target, "GET", path, Authorization="Bearer guess")[0] == 401


def test_a_volunteer_of_one_project_is_nobody_in_another(target: Target, workers: dict[str, tuple[str, str]]) -> None:
    token, _ = workers["script"]

    for name in CALLS:
        body = json.dumps({"token": token, "progress": "x", "data": "x"}).encode()
        status, text = said(target, "POST", f"/p/closed/api/{name}", body, **as_admin(target))
        assert (status, text) in ((404, text), (200, "False"))


def test_no_page_of_another_site_makes_its_visitors_volunteers(target: Target) -> None:
    for name in CALLS:
        status, _ = said(target, "POST", f"/p/open/api/{name}", b'{"token": "x"}', Origin=f"http://{EVIL}")
        assert status == 403
    status, _ = said(target, "GET", "/p/open/", host=EVIL)
    assert status == 403


def test_a_volunteer_may_ask_nothing_else(target: Target) -> None:
    for path in (
        "/v1/status",
        "/v1/jobs",
        "/v1/projects",
        "/v1/projects/open",
        "/v1/workers",
        "/v1/tokens",
        "/v1/cluster",
    ):
        assert said(target, "GET", path)[0] == 401
    status, text = said(target, "POST", "/v1/projects/closed/stages/a/lease", b'{"worker": "w"}')
    assert status == 401, text


def test_whoever_registers_again_and_again_stops_nobody_else(target: Target) -> None:
    statuses = {said(target, "GET", f"/p/open/api/new?stage=a&nickname=n{n}")[0] for n in range(100)}

    assert statuses <= {200, 403}
    assert said(target, "GET", "/healthz")[0] == 200
    assert target.ask("GET", "/v1/status")[0] == 200


@pytest.mark.parametrize("garbled", ["length and chunks", "two lengths", "a thousand headers", "a NUL"])
def test_a_garbled_request_is_refused_here_too(target: Target, garbled: str) -> None:
    head = target.request("POST", "/p/open/api/newJob", Connection="", Content_Length="").removesuffix(b"\r\n")

    replies = target.say(head + GARBLED[garbled] + target.request("GET", "/p/open/"))

    assert [reply.status for reply in replies] == [400]


def test_nothing_that_volunteers_say_steers_a_log(target: Target, caplog: pytest.LogCaptureFixture) -> None:
    for text in NASTY.values():
        said(target, "GET", f"/p/open/api/new?stage=a&nickname={quote(text[:100])}")
        said(target, "GET", f"/p/{quote(text[:100], safe='')}/")

    lines = [record.getMessage() for record in caplog.records]
    assert not [line for line in lines for letter in line if unicodedata.category(letter) in ("Cc", "Cf")]
    assert dcengine.Project("open").status().total == len(NASTY)
