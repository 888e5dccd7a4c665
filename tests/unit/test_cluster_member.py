from __future__ import annotations

import platform
from typing import Any

from dcengine import __version__
from dcengine.cluster.member import _why_unfit, _worker


def answers(**changes: Any) -> dict[str, Any]:
    fit = {
        "name": "w1",
        "slots": 1,
        "resources": [],
        "python": platform.python_version(),
        "executable": "/usr/bin/python3",
        "version": __version__,
        "problem": "",
        "host": "lab7",
        "user": "carol",
        "tags": "",
        "nickname": "",
    }
    return {**fit, **changes}


def test_a_worker_with_our_version_and_python_is_fit() -> None:
    assert _why_unfit(answers()) is None


def test_another_minor_version_of_python_is_unfit_and_both_are_named() -> None:
    reason = _why_unfit(answers(python="3.99.1")) or ""

    assert "3.99.1" in reason
    assert platform.python_version() in reason
    assert "/usr/bin/python3 on lab7" in reason


def test_another_patch_version_of_python_is_fit() -> None:
    minor = ".".join(platform.python_version_tuple()[:2])

    assert _why_unfit(answers(python=f"{minor}.99")) is None


def test_the_contributor_is_the_nickname_tag_then_the_nickname_then_the_user() -> None:
    said = answers(nickname="bob")

    assert _worker("tcp://a", said, tags={"nickname": "alice"}).contributor == "alice"
    assert _worker("tcp://a", said, tags={}).contributor == "bob"
    assert _worker("tcp://a", answers(), tags={}).contributor == "carol@lab7"
