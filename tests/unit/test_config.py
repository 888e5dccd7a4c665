from __future__ import annotations

from pathlib import Path

import pytest

from dcengine import config
from dcengine.errors import InvalidOption


def load(directory: Path, environment: dict[str, str] | None = None, **explicit: object) -> config.Settings:
    return config.load(directory=directory, environment=environment or {}, **explicit)


def test_defaults_hold_where_nobody_says_otherwise(tmp_path: Path) -> None:
    assert load(tmp_path) == config.Settings()


def test_later_sources_win(tmp_path: Path) -> None:
    (tmp_path / config.FILE).write_text('port = 1\nhost = "file"\ndb = "file.db"\ntoken = "file"\n')
    environment = {"DCENGINE_PORT": "2", "DCENGINE_HOST": "environment"}

    settings = load(tmp_path, environment, port=3, db=None)

    assert (settings.port, settings.host, settings.db, settings.token) == (3, "environment", "file.db", "file")


def test_every_type_is_read_from_the_environment(tmp_path: Path) -> None:
    environment = {
        "DCENGINE_WORKERS": "2",
        "DCENGINE_CLUSTER_SHARE": "0.25",
        "DCENGINE_PROCESSES": "false",
        "DCENGINE_WORKER_TAGS": "cpu; gpu,site=lab",
        "DCENGINE_TOKEN": "123",
        "DCENGINE_SCHEDULER": "",
    }

    settings = load(tmp_path, environment)

    assert settings.workers == 2
    assert settings.cluster_share == 0.25
    assert settings.processes is False
    assert settings.worker_tags == ["cpu", "gpu,site=lab"]
    assert settings.token == "123"
    assert settings.scheduler is None


def test_a_path_is_as_good_as_its_text(tmp_path: Path) -> None:
    assert load(tmp_path, db=Path("work.db")).db == "work.db"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("prot = 1", "called 'prot'; expected port"),
        ("zzz = 1", "expected db or blobs or host or port"),
        ("port = 'many'", "port in {path} cannot be 'many'; expected a whole number from 0 to 65535"),
        ("port = 99999", "port in {path} cannot be 99999"),
        ("port = '8787'", "port in {path} cannot be '8787'"),
        ("cluster_share = 0", "expected a number above 0 to 1"),
        ("processes = 1", "expected true or false"),
        ("worker_tags = 'gpu'", "expected a list of texts"),
        ("port = = 1", "{path} cannot be read ("),
        ("token = 5", "token in {path} cannot be what it is; expected a text"),
    ],
)
def test_a_wrong_file_is_refused_with_its_name_and_the_way_out(tmp_path: Path, content: str, told: str) -> None:
    path = tmp_path / config.FILE
    path.write_text(content)

    with pytest.raises(InvalidOption) as caught:
        load(tmp_path)

    assert told.format(path=path) in str(caught.value)


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / config.FILE).write_bytes(b"\xff\xfe")

    with pytest.raises(InvalidOption, match="cannot be read"):
        load(tmp_path)


def test_a_wrong_variable_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        InvalidOption, match="workers in DCENGINE_WORKERS cannot be '-1'; expected a whole number from 0"
    ):
        load(tmp_path, {"DCENGINE_WORKERS": "-1"})


@pytest.mark.parametrize("explicit", [{"port": "8787"}, {"prot": 1}, {"workers": -1}, {"worker_tags": [""]}])
def test_a_wrong_explicit_value_is_refused(tmp_path: Path, explicit: dict[str, object]) -> None:
    with pytest.raises(InvalidOption):
        load(tmp_path, **explicit)


@pytest.mark.parametrize("name", ["tls_cert", "tls_key"])
def test_half_of_a_certificate_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidOption, match="both, or neither"):
        load(tmp_path, **{name: "x.pem"})


def test_text_form_hides_secrets(tmp_path: Path) -> None:
    settings = load(tmp_path, token="hush", url="http://h/?token=hush", port=1)

    assert repr(settings) == "Settings(port=1)"


def test_every_setting_has_a_sentence_and_a_variable() -> None:
    for name, setting in config.SETTINGS.items():
        assert setting.help.endswith("."), name
        assert setting.env == "DCENGINE_" + name.upper()


def test_the_settings_page_is_current() -> None:
    page = Path(__file__, "../../../docs/settings.md").resolve()

    assert page.read_text() == config.document(), "run `make docs`"


def test_settings_are_shown_with_their_sources_and_without_secrets(tmp_path: Path) -> None:
    (tmp_path / "dcengine.toml").write_text('workers = 3\nport = 1\nblobs = "ftp://ann:geheim@host/values"\n')
    environment = {"DCENGINE_PORT": "2", "DCENGINE_TOKEN": "geheim", "DCENGINE_URL": "http://h/?token=geheim"}

    shown = config.shown(directory=tmp_path, environment=environment, host="::1")

    found = {each.name: (each.value, each.source) for each in shown}
    assert found["workers"] == ("3", "dcengine.toml")
    assert found["port"] == ("2", "environment")
    assert found["host"] == ("::1", "command line")
    assert found["idle_exit"][1] == "default"
    assert (found["token"], found["url"]) == (("set", "environment"), ("set", "environment"))
    assert found["blobs"] == ("ftp://…@host/values", "dcengine.toml")
    assert "geheim" not in str(shown)
