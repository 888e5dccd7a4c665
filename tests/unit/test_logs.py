"""What is logged, in which form, and that no secret gets through."""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from dcengine import logs

TOKEN = "8h7ZTPDQJ6YxyH7eafoUPaUcCs2au2_0K5Z0kSI_D6o"
LEASE = "1f-2-8a7b6c5d4e3f2a1b"
WORKER = "123e4567-e89b-42d3-a456-426614174000"


@contextmanager
def logged(form: logs.Form, monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """What a process that logs in *form* writes to stderr."""
    written, root = io.StringIO(), logging.getLogger()
    before, level = root.handlers[:], root.level
    root.handlers.clear()  # those of pytest would be closed
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stderr", written)
        logs.configure(form, "info")
    try:
        yield written
    finally:
        root.handlers[:], root.level = before, level
        root.setLevel(level)


@pytest.mark.parametrize(
    "text",
    [
        "GET /v1/jobs?token=SECRET&limit=1 HTTP/1.1",
        "GET /v1/jobs?limit=1&token=SECRET",
        "next=%2F%3Ftoken%3DSECRET",
        '{"token": "SECRET", "n": 1}',
        "{'token': 'SECRET'}",
        "Heartbeat(token='SECRET', done=1)",
        "DCENGINE_TOKEN=SECRET",
        "Authorization: Bearer SECRET",
        "{'Authorization': 'Bearer SECRET', 'Host': 'x'}",
        r"b'Authorization: Basic SECRET\r\nHost: x'",
        "(b'Authorization', b'token SECRET')",
        "Proxy-Authorization: SECRET",
        "it sent Bearer SECRET and left",
        "cannot connect to http://alice:SECRET@farm.example/p/laion/",
        "cannot connect to http://SECRET@farm.example/",
        "password=SECRET",
    ],
)
def test_a_secret_is_taken_out_wherever_it_stands(text: str) -> None:
    for secret in ("kQ7~secret.55", TOKEN, LEASE):
        shown = logs.redact(text.replace("SECRET", secret))

        assert secret not in shown
        assert logs.HIDDEN in shown


@pytest.mark.parametrize("secret", [TOKEN, LEASE, WORKER])
def test_our_own_tokens_are_known_by_their_looks(secret: str) -> None:
    assert logs.redact(f"what is {secret}?") == f"what is {logs.HIDDEN}?"


@pytest.mark.parametrize(
    "text",
    [
        "job 12: failed (w1 gave it back)",
        "GET /v1/projects/{name}/jobs 200",
        "3 tokens, 2026-11-22 00:14:13",
        "cannot connect to http://127.0.0.1:8787/farm",
        "2 of 3-4-5 parts",
        "a sha256: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "test_a_body_that_never_ends_is_answered_by_a",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert logs.redact(text) == text


@pytest.mark.parametrize("form", ["text", "json"])
def test_arguments_tracebacks_and_fields_are_redacted_too(form: logs.Form, monkeypatch: pytest.MonkeyPatch) -> None:
    with logged(form, monkeypatch) as written:
        try:
            raise ValueError(f"http://alice:{TOKEN}@host/?token={TOKEN}")
        except ValueError:
            logging.getLogger("any").exception("it broke: %s", f"token={TOKEN}", extra={"said": f"token={LEASE}"})
        logging.getLogger("any").warning("where", stack_info=True, extra={"seen": {"n": 1}})
        logging.getLogger("any").warning("%d wrong", "argument")

    assert TOKEN not in written.getvalue()
    assert LEASE not in written.getvalue()
    assert "ValueError: http://***@host" in written.getvalue()
    assert "wrong" in written.getvalue()


def test_text_is_one_line_for_a_record_whatever_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    with logged("text", monkeypatch) as written:
        logging.getLogger("dcengine").info(
            "job 7: failed (%s)", "\n2026 ERROR forged\x1b[2J\u202e", extra={"stage": "a"}
        )

    (line,) = written.getvalue().splitlines()
    assert line.endswith(r"INFO dcengine: job 7: failed ( 2026 ERROR forged\x1b[2J\u202e) stage=a")


def test_json_is_one_object_for_a_record_even_with_half_a_character(monkeypatch: pytest.MonkeyPatch) -> None:
    with logged("json", monkeypatch) as written:
        logging.getLogger("dcengine").info("job 7: %s\n", "\ud800", extra={"request_id": WORKER, "status": 200})

    (line,) = written.getvalue().splitlines()
    said = json.loads(line)
    assert (said["level"], said["logger"], said["message"]) == ("INFO", "dcengine", "job 7: \ud800\n")
    assert (said["request_id"], said["status"]) == (WORKER, 200)
    assert said["time"].endswith("+00:00")


def test_libraries_that_bring_handlers_along_say_it_our_way(monkeypatch: pytest.MonkeyPatch) -> None:
    noisy, own = logging.getLogger("noisy.part"), io.StringIO()
    noisy.addHandler(logging.StreamHandler(own))
    noisy.propagate = False
    with logged("json", monkeypatch) as written:
        logs.take_over("noisy")
        noisy.warning("token=%s", TOKEN)

    assert own.getvalue() == ""
    assert json.loads(written.getvalue())["message"] == "token=***"
