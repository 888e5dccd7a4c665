"""The cache of code on a worker."""

from __future__ import annotations

import pytest

from dcengine.runner.code_cache import CodeCache, UnknownCode
from dcengine.runner.units import Unit


def unit(digest: bytes, code: bytes | None = None) -> Unit:
    return Unit(id=1, function=digest, name="f", code=code, items=b"", count=0)


def test_code_that_came_once_is_known() -> None:
    cache = CodeCache()
    assert cache.code_of(unit(b"a", b"code of a")) == b"code of a"

    assert cache.code_of(unit(b"a")) == b"code of a"
    assert b"a" in cache


def test_code_that_never_came_is_unknown() -> None:
    with pytest.raises(UnknownCode, match="61"):
        CodeCache().code_of(unit(b"a"))


def test_what_was_not_used_for_longest_goes_first() -> None:
    cache = CodeCache(limit=100)
    cache.code_of(unit(b"a", b"x" * 40))
    cache.code_of(unit(b"b", b"x" * 40))
    cache.code_of(unit(b"a"))
    cache.code_of(unit(b"c", b"x" * 40))

    assert [digest in cache for digest in (b"a", b"b", b"c")] == [True, False, True]


def test_code_larger_than_the_cache_is_kept_as_long_as_it_is_the_newest() -> None:
    cache = CodeCache(limit=100)
    cache.code_of(unit(b"a", b"x" * 40))
    cache.code_of(unit(b"b", b"x" * 400))

    assert cache.code_of(unit(b"b")) == b"x" * 400
    assert b"a" not in cache
