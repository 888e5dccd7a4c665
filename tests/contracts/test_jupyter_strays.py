"""Addresses and bodies that are nearly right, over a real engine: what people paste and what scripts send."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dcengine.logs import redact
from tests.asking import Asker, files_engine

KERNEL = "00000000-0000-0000-0000-000000000000"


@pytest.fixture(scope="module")
def asker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asker]:
    with files_engine(tmp_path_factory.mktemp("strays"), prefix="/farm") as asker:
        yield asker


@pytest.mark.parametrize(
    "path", ["/tree", "/api", "/api/kernels", "/api/sessions", "/api/kernelspecs", "/api/contents", "/api/status"]
)
def test_a_slash_at_the_end_changes_nothing(asker: Asker, path: str) -> None:
    with_it = asker.ask("GET", f"{path}/?1700000000000")

    assert with_it.status == 200
    assert with_it.body == asker.ask("GET", path).body


def test_a_slash_at_the_end_opens_nothing(asker: Asker) -> None:
    assert Asker(asker.url, "").ask("GET", "/api/kernels/").status == 403
    assert asker.ask("GET", f"/api/kernels/{KERNEL}/").json["message"] == f"Kernel does not exist: {KERNEL}"
    assert asker.ask("DELETE", "/api/kernels/").status == 405


@pytest.mark.parametrize(
    ("given", "location"),
    [
        ("//api/kernels", "/api/kernels"),
        ("//api/kernels?1700000000000", "/api/kernels?1700000000000"),
        ("//api//contents/a%20b.txt?content=0", "/api/contents/a%20b.txt?content=0"),
        ("//files/%2F%2Fevil.example", "/files/%2F%2Fevil.example"),
    ],
)
def test_an_address_with_a_slash_at_its_end_leads_to_the_same(asker: Asker, given: str, location: str) -> None:
    """Clients that are given ``http://host:8787/`` and add ``/api``: 308 keeps method and body."""
    for method in ("GET", "POST"):
        reply = asker.ask(method, given)

        assert (reply.status, reply.headers["Location"]) == (308, location)
    assert asker.ask("GET", f"/farm{given}").headers["Location"] == f"/farm{location}"


@pytest.mark.parametrize("path", ["//evil.example/api", "///evil.example", "//evil.example/%2e%2e", "//apis/"])
def test_nobody_is_sent_to_another_host(asker: Asker, path: str) -> None:
    reply = asker.ask("GET", path)

    assert (reply.status, "Location" in reply.headers) == (404, False)


@pytest.mark.parametrize("path", ["/lab", "/lab/", "/lab/tree/a.ipynb", "/lab/api/kernels", "/tree/api/kernels"])
def test_an_address_with_a_page_says_what_to_paste_instead(asker: Asker, path: str) -> None:
    for method in ("GET", "POST"):
        reply = asker.ask(method, f"{path}?token=wrong")

        assert reply.status == 404
        assert f"{asker.url}/?token=..." in reply.json["message"]


def test_null_is_a_body_with_nothing_in_it(asker: Asker, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "dcengine_kernel")
    assert asker.ask("POST", "/api/sessions", b" null ").json["message"] == "Missing field in JSON data: path"

    reply = asker.ask("POST", "/farm/api/kernels/", b"null")
    assert (reply.status, reply.json["name"]) == (201, "dcengine")
    assert reply.headers["Location"] == f"/farm/api/kernels/{reply.json['id']}"
    assert asker.ask("DELETE", f"/api/kernels/{reply.json['id']}").status == 204
    # The log tells kernels apart, also where it is redacted.
    told = [redact(record.getMessage()) for record in caplog.records]
    assert f"kernel {reply.json['id'][:8]} has ended" in told
