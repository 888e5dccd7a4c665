from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest

from dcengine import packages
from dcengine.codec import pack_function

MSGSPEC = {"msgspec": version("msgspec")}
ENCODERS = {"json": msgspec.json.encode}


def used_by(function: Callable[..., Any]) -> dict[str, str]:
    return packages.used_by(function, pack_function(function).digest)


def plain(n: int) -> int:
    import os.path

    return n + len(os.sep)


def encode(value: object) -> bytes:
    return msgspec.json.encode(value)


def encode_by_table(value: object) -> bytes:
    return ENCODERS["json"](value)


def by_another(value: object) -> bytes:
    return encode(value)


def inside(value: object) -> object:
    def innermost() -> object:
        from yaml import safe_load

        return safe_load

    return innermost


class Encoder:
    def __call__(self, value: object) -> bytes:
        return encode(value)

    @staticmethod
    def write(value: object) -> bytes:
        return msgspec.json.encode(value)


def by_default(value: object, encode: Any = msgspec.json.encode) -> Any:
    return encode(value)


def make() -> Callable[[object], object]:
    module: ModuleType = msgspec
    return lambda value: module.json.encode(value)


@functools.lru_cache
def cached(value: object) -> bytes:
    return msgspec.json.encode(value)


@pytest.mark.parametrize("function", [plain, divmod, len, "".join, str])
def test_pythons_own_modules_are_no_packages(function: Callable[..., Any]) -> None:
    assert used_by(function) == {}


@pytest.mark.parametrize(
    "function",
    [
        *(
            encode,
            encode_by_table,
            by_another,
            by_default,
            make(),
            cached,
            Encoder(),
            Encoder.write,
            Encoder().__call__,
        ),
        *(functools.partial(encode, 1), msgspec.json.encode, msgspec.Struct, lambda: Encoder()),
    ],
)
def test_a_package_is_found_however_it_is_referred_to(function: Callable[..., Any]) -> None:
    assert used_by(function) == MSGSPEC


def test_what_is_imported_inside_is_found_by_its_distribution() -> None:
    assert used_by(inside) == {"PyYAML": version("PyYAML")}


def test_a_local_module_is_looked_through_and_is_none_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "local_helpers.py").write_text("import msgspec\ndef clean(x):\n    return msgspec.json.encode(x)\n")
    monkeypatch.syspath_prepend(tmp_path)
    module = __import__("local_helpers")

    def use() -> object:
        return module.clean(1)

    def import_it() -> object:
        import local_helpers

        return local_helpers

    assert used_by(use) == MSGSPEC
    assert used_by(import_it) == MSGSPEC


def test_ours_is_no_package() -> None:
    def track() -> object:
        import dcengine

        return dcengine.track, packages.used_by

    assert used_by(track) == {}


def test_what_is_not_installed_here_cannot_be_compared() -> None:
    def imports() -> None:
        import no_such_module_anywhere  # noqa: F401

    assert used_by(imports) == {}


def test_a_value_that_answers_with_errors_does_no_harm() -> None:
    class Rude:
        def __getattribute__(self, name: str) -> Any:
            raise RuntimeError(name)

    rude = Rude()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packages, "_known", {})
        assert packages.used_by(lambda: rude, b"") == {}


def test_one_of_several_distributions_is_chosen_by_the_name_of_the_module() -> None:
    several = {"google-auth", "google-cloud-storage", "protobuf"}

    assert packages._called("google.cloud.storage.blob", set(several)) == "google-cloud-storage"
    assert packages._called("google.auth", set(several)) == "google-auth"
    assert packages._called("google.rpc", set(several)) is None


def test_a_function_without_packages_asks_nobody_for_distributions(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("metadata was read")

    monkeypatch.setattr(packages.metadata, "packages_distributions", refuse)
    monkeypatch.setattr(packages.metadata, "distribution", refuse)
    monkeypatch.setattr(sys.modules[__name__], "plain", plain)
    packages._known.clear()

    assert used_by(plain) == {}
