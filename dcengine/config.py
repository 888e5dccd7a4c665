"""Every setting, once: its name, type, default and help. From it come the file, the environment and the flags.

Later sources win: defaults, ``dcengine.toml`` in the working directory, the environment, explicit values.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import Meta

from .errors import InvalidOption

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FILE = "dcengine.toml"
PREFIX = "DCENGINE_"
SEPARATOR = ";"  #: between the entries of a list in the environment; tags themselves contain commas

CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+(?=@)")  #: a user and password in a URL

Text = Annotated[str, Meta(min_length=1)]
Count = Annotated[int, Meta(ge=0)]
Seconds = Annotated[float, Meta(ge=0)]


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All settings of one process. `load` makes them."""

    db: Annotated[Text, Meta(description="The file that holds all jobs.")] = "./dcengine.db"
    blobs: Annotated[
        Text | None,
        Meta(
            description="Where values above 1 MiB are kept: a folder or an fsspec URL such as `s3://bucket/prefix`; "
            "unset: `FILE.blobs` beside the database."
        ),
    ] = None
    host: Annotated[Text, Meta(description="The address that the engine's HTTP server listens on.")] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535, description="Its port; 0 finds a free one.")] = 8787
    url: Annotated[Text | None, Meta(description="The engine to use, instead of the one that owns the file.")] = None
    token: Annotated[Text | None, Meta(description="The token for that engine, where its URL carries none.")] = None
    workers: Annotated[
        Count | None,
        Meta(description="One-slot workers to start on this machine; unset: one for each core, at most 4; 0: none."),
    ] = None
    worker_tags: Annotated[
        list[Text],
        Meta(description="Tags of those workers, one entry for each, such as `gpu,site=lab`; repeated if too few."),
    ] = []
    scheduler: Annotated[
        Text | None, Meta(description="The address of a Dask scheduler to join, instead of starting one.")
    ] = None
    processes: Annotated[
        bool, Meta(description="Run functions in processes; false: in threads, which cannot be interrupted.")
    ] = True
    cluster_host: Annotated[
        Text, Meta(description="The address that our Dask scheduler listens on; workers elsewhere must reach it.")
    ] = "127.0.0.1"
    cluster_share: Annotated[
        float, Meta(gt=0, le=1, description="The share of a joined cluster's slots that this engine may take.")
    ] = 0.5
    pilot_idle: Annotated[
        Seconds, Meta(description="Seconds without work after which a slot of a joined cluster is given back.")
    ] = 30.0
    worker_lease: Annotated[
        float,
        Meta(gt=0, description="Seconds that a worker may be silent before what it was given runs elsewhere."),
    ] = 30.0
    grace: Annotated[
        Seconds,
        Meta(description="Seconds that a cancelled or late function has to stop before its process is killed."),
    ] = 1.0
    session_idle: Annotated[
        float, Meta(gt=0, description="Seconds without use after which a session ends, with what its process keeps.")
    ] = 3600.0
    worker_values: Annotated[
        Count,
        Meta(
            description="Bytes of values that a worker keeps on its disk for this engine; above that it drops those "
            'that were not used for longest, results of `keep="remote"` last.'
        ),
    ] = 8 << 30
    output_limit: Annotated[
        Count,
        Meta(
            description="Bytes of what one call prints that are kept: the first half as it comes, "
            "of the rest the newest once it has ended."
        ),
    ] = 16 << 20
    idle_exit: Annotated[
        Seconds | None, Meta(description="Seconds without work or callers after which the engine ends; unset: never.")
    ] = None
    allow_host: Annotated[
        list[Text], Meta(description="More host names by which browsers may address the engine.")
    ] = []
    trusted_proxy: Annotated[
        list[Text],
        Meta(
            description="Addresses or networks of reverse proxies whose `X-Forwarded-*` headers are believed, "
            "such as `127.0.0.1` or `10.0.0.0/8`."
        ),
    ] = []
    prefix: Annotated[
        Text | None, Meta(description="The path below which a reverse proxy shows the engine, such as `/farm`.")
    ] = None
    max_connections: Annotated[
        int, Meta(ge=1, description="Connections to the HTTP server at the same time; more are closed at once.")
    ] = 10_000
    volunteer_rate: Annotated[
        float,
        Meta(gt=0, description="Requests a second from one address without a token, to projects that are open."),
    ] = 500.0
    volunteer_body_limit: Annotated[int, Meta(ge=1, description="Bytes that such a request may have.")] = 16 << 20
    open_metrics: Annotated[bool, Meta(description="Let anybody read `/metrics`, without a token.")] = False
    protocol_port: Annotated[
        list[Text],
        Meta(
            description="Ports for old protocols that are no HTTP, such as `p2p=9000` or `p2p=10.0.0.5:9000`; such a "
            "protocol knows no tokens, and beyond this machine it is answered only with `insecure`."
        ),
    ] = []
    private_webhooks: Annotated[
        bool, Meta(description="Let webhooks have private addresses, such as those of this machine and its network.")
    ] = False
    kernels: Annotated[
        bool, Meta(description="Answer Jupyter front ends too: `dcengine serve` is a Jupyter server with kernels then.")
    ] = True
    files: Annotated[
        Text,
        Meta(
            description="The folder, or fsspec URL such as `s3://bucket/prefix`, whose files notebooks read and write."
        ),
    ] = "."
    kernel_idle: Annotated[
        Seconds | None,
        Meta(
            description="Seconds without work after which a kernel ends, never while its jobs are unfinished; 0: never."
        ),
    ] = 12 * 3600.0
    kernel_tags: Annotated[
        list[Text],
        Meta(
            description="Tag expressions, such as `gpu`: for each a kernel that itself runs on a worker that has them."
        ),
    ] = []
    log_format: Annotated[
        Literal["text", "json"], Meta(description="How `dcengine serve` logs, on stderr: in lines or in JSON objects.")
    ] = "text"
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Meta(description="From what on it logs; `info` has a line for each request and each move of a job."),
    ] = "warning"
    tls_cert: Annotated[Text | None, Meta(description="The certificate (PEM) for HTTPS.")] = None
    tls_key: Annotated[Text | None, Meta(description="Its private key (PEM).")] = None
    insecure: Annotated[bool, Meta(description="Allow an address beyond this machine without TLS.")] = False

    def __repr__(self) -> str:
        """Show what differs from the defaults, and no secrets, since logs show this."""
        shown = {name: getattr(self, name) for name, setting in SETTINGS.items() if not setting.is_secret}
        changed = [f"{name}={value!r}" for name, value in shown.items() if value != SETTINGS[name].default]
        return f"Settings({', '.join(changed)})"


class Setting(NamedTuple):
    """What there is to know about one setting."""

    name: str
    type: Any
    default: Any
    help: str

    @property
    def env(self) -> str:
        """The environment variable that sets it."""
        return PREFIX + self.name.upper()

    @property
    def is_secret(self) -> bool:
        return self.name in ("token", "url")

    def text_of(self, value: Any) -> str:
        """Return *value* as people read it."""
        if value is None or value == []:
            return "not set"
        if self.is_secret:
            return "set"
        if isinstance(value, bool):
            return "yes" if value else "no"
        text = SEPARATOR.join(map(str, value)) if isinstance(value, list) else str(value)
        return CREDENTIALS.sub("…", text)

    @property
    def is_list(self) -> bool:
        return self.schema.get("type") == "array"

    @property
    def schema(self) -> dict[str, Any]:
        """The JSON schema of its value, a missing value left out."""
        schema = msgspec.json.schema(self.type)
        (present, *_) = [kind for kind in schema.get("anyOf", [schema]) if kind.get("type") != "null"]
        return {**schema, **present}

    @property
    def expected(self) -> str:
        """What its value may be, in words."""
        schema = self.schema
        if "enum" in schema:
            return " or ".join(schema["enum"])
        if schema["type"] == "boolean":
            return "true or false"
        if schema["type"] == "array":
            return "a list of texts"
        if schema["type"] == "string":
            return "a text"
        kind = "a whole number" if schema["type"] == "integer" else "a number"
        lowest = f"above {schema['exclusiveMinimum']:g}" if "exclusiveMinimum" in schema else ""
        lowest = f"from {schema['minimum']:g}" if "minimum" in schema else lowest
        highest = f"to {schema['maximum']:g}" if "maximum" in schema else ""
        return " ".join(part for part in (kind, lowest, highest) if part)


def _described(field: msgspec.structs.FieldInfo) -> Setting:
    default = field.default_factory() if field.default is msgspec.NODEFAULT else field.default
    return Setting(field.name, field.type, default, field.type.__metadata__[-1].description)


SETTINGS: dict[str, Setting] = {
    field.name: _described(field) for field in msgspec.structs.fields(Settings)
}  #: by name, in the order in which people meet them


# ---- loading -------------------------------------------------------------------------------


def load(*, directory: str | Path = ".", environment: Mapping[str, str] | None = None, **explicit: object) -> Settings:
    """Return the settings in force; an explicit value of None counts as not given.

    Raises `InvalidOption` that names the setting, and the file or variable it came from.
    """
    values: dict[str, Any] = {}
    for found in _places(directory, environment, explicit).values():
        values.update(found)
    if ("tls_cert" in values) != ("tls_key" in values):
        raise InvalidOption("HTTPS", "had with only one of tls_cert and tls_key", "both, or neither")
    return Settings(**values)


def _places(
    directory: str | Path, environment: Mapping[str, str] | None, explicit: Mapping[str, object]
) -> dict[str, dict[str, Any]]:
    """Return what is set where; what comes later goes before."""
    return {
        FILE: _from_file(Path(directory, FILE)),
        "environment": _from_environment(os.environ if environment is None else environment),
        "command line": {
            name: _checked(name, value, "", strict=True) for name, value in explicit.items() if value is not None
        },
    }


class ShownSetting(msgspec.Struct, frozen=True):
    """A setting as people see it."""

    name: str
    value: str  #: as text; of a secret only whether there is one
    source: str  #: where it was set: default, dcengine.toml, environment, command line
    help: str


def shown(
    *, directory: str | Path = ".", environment: Mapping[str, str] | None = None, **explicit: object
) -> list[ShownSetting]:
    """Return all settings that `load` returns for the same arguments, each with where it comes from."""
    found: dict[str, tuple[Any, str]] = {}
    for source, values in _places(directory, environment, explicit).items():
        found.update({name: (value, source) for name, value in values.items()})
    return [
        ShownSetting(each.name, each.text_of(value), source, each.help)
        for each in SETTINGS.values()
        for value, source in [found.get(each.name, (each.default, "default"))]
    ]


def _from_file(path: Path) -> dict[str, Any]:
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidOption(str(path), f"read ({error})", "lines such as: port = 8787") from error
    return {name: _checked(name, value, f" in {path}", strict=True) for name, value in content.items()}


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    values = {}
    for setting in SETTINGS.values():
        text = environment.get(setting.env, "").strip()
        if text:
            value = [part.strip() for part in text.split(SEPARATOR)] if setting.is_list else text
            values[setting.name] = _checked(setting.name, value, f" in {setting.env}", strict=False)
    return values


def _checked(name: str, value: object, where: str, *, strict: bool) -> Any:
    """Return *value* as the setting's type; *strict* refuses to read numbers out of text."""
    setting = SETTINGS.get(name)
    if setting is None:
        known = get_close_matches(name, SETTINGS, 1) or list(SETTINGS)
        raise InvalidOption(f"a setting{where}", f"called {name!r}", " or ".join(known))
    value = os.fspath(value) if isinstance(value, os.PathLike) else value
    try:
        return msgspec.convert(value, setting.type, strict=strict)
    except msgspec.ValidationError:
        shown = "what it is" if setting.is_secret else repr(value)
        raise InvalidOption(f"{name}{where}", shown, setting.expected) from None


# ---- documentation -------------------------------------------------------------------------

_PAGE = f"""\
# Settings

<!-- Made by `make docs` from dcengine/config.py. -->

A setting comes from, later ones winning: its default, `{FILE}` in the working directory (lines such as `port = 8787`),
the environment, a flag of the command line or an argument of `dcengine.Engine(...)`.

In the environment, `{SEPARATOR}` stands between the entries of a list, and an empty variable counts as unset.

| name | environment | default | value | what it does |
|---|---|---|---|---|
"""


def document() -> str:
    """Return docs/settings.md."""
    return _PAGE + "".join(map(_row, SETTINGS.values()))


def _row(setting: Setting) -> str:
    default = "unset" if setting.default is None else f"`{_as_toml(setting.default)}`"
    return f"| `{setting.name}` | `{setting.env}` | {default} | {setting.expected} | {setting.help} |\n"


def _as_toml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


if __name__ == "__main__":
    print(document(), end="")
