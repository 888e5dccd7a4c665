"""How a process of its own logs: as text for people or JSON for machines, and never with a secret.

A library configures no logging: only the command line calls `configure`. Who embeds an engine may put `Redaction` on
handlers of its own: ``handler.addFilter(Redaction())``.
"""

from __future__ import annotations

import logging
import re
from typing import Any, Literal

from .plain import clean

Form = Literal["text", "json"]
Level = Literal["debug", "info", "warning", "error"]

HIDDEN = "***"
LINE_LENGTH = 10_000  #: characters of a message that are kept

_ORDINARY = frozenset({*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"})
_IN_THE_MESSAGE = frozenset({"method", "path", "status", "ms", "remote"})  #: of a request: text need not say it twice
_AS_GIVEN = frozenset({"request_id"})  #: chosen by whoever asks, to be found again; it may look like anything

#: What to look for, and what is left of it.
_SECRETS = (
    # ?token=..., token: ..., "token": "...", 'password' = b'...', also where the address is quoted once more
    (
        r"""(?ix) ((?:\b|_|%[0-9a-f]{2}) (?:token|secret|password|passwd|api[_-]?key) ["']? \s* (?:=|:|%3D) \s*
        (?:b?["'])?) [^\s"'&<>,;)}\]]+""",
        rf"\1{HIDDEN}",
    ),
    # Authorization: Bearer ..., and the same as a header of a dict or a raw line
    (
        r"""(?ix) ((?:proxy-)?authorization ["']? \s* [:=,] \s* (?:b?["'])?) (?:(?:bearer|basic|token|digest)\s+)?
        [^\s"'<>,;)}\]\\]+""",
        rf"\1{HIDDEN}",
    ),
    (r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}", rf"\1 {HIDDEN}"),
    # http://alice:PASSWORD@host/
    (r"://[^/\s@\"'<>]*@", f"://{HIDDEN}@"),
    # the identity of an outside worker of the old protocol: a uuid
    (r"(?i)\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", HIDDEN),
    # the token of a lease: task, attempt and 63 random bits
    (r"\b[0-9a-f]{1,16}-[0-9a-f]{1,16}-[0-9a-f]{8,16}\b", HIDDEN),
    # what signs the messages to a webhook
    (r"\bwhsec_[A-Za-z0-9+/=_-]+", f"whsec_{HIDDEN}"),
    # 256 random bits as our tokens are written, wherever they stand
    (r"(?<![\w-])(?=[\w-]*[A-Z])(?=[\w-]*[a-z])(?=[\w-]*[0-9])[A-Za-z0-9_-]{43}(?![\w-])", HIDDEN),
)


def redact(text: str) -> str:
    """Return *text* without tokens, passwords and what else proves who somebody is."""
    for pattern, left in _SECRETS:
        text = re.sub(pattern, left, text)  # compiled when first used: most who import this never do
    return text


class Redaction(logging.Filter):
    """Takes secrets out of messages, their arguments, tracebacks and whatever else a record carries."""

    _traces = logging.Formatter()

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record through, without its secrets."""
        record.msg, record.args = redact(_message(record)), ()
        if record.exc_info and record.exc_info[0] is not None:
            record.exc_text = redact(self._traces.formatException(record.exc_info))
            record.exc_info = None
        if record.stack_info:
            record.stack_info = redact(record.stack_info)
        for name, value in fields_of(record).items():
            if isinstance(value, str) and name not in _AS_GIVEN:
                setattr(record, name, redact(value))
        return True


class TextFormatter(logging.Formatter):
    """One line for each record, with what it carries as ``name=value``; tracebacks follow on lines of their own."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Return the line, without what could pass for another line or move the cursor of a terminal."""
        fields = {name: value for name, value in fields_of(record).items() if name not in _IN_THE_MESSAGE}
        said = [f"{name}={value}" for name, value in fields.items() if value is not None]
        return clean(" ".join([super().formatMessage(record), *said]), LINE_LENGTH)


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """Return what *record* carries beyond what every record does."""
    return {name: value for name, value in vars(record).items() if name not in _ORDINARY}


def configure(form: Form, level: Level) -> None:
    """Log to stderr in this *form*, from *level* on, unless somebody has said already how this process logs."""
    handler = logging.StreamHandler()
    handler.setFormatter(TextFormatter() if form == "text" else _json_formatter())
    handler.addFilter(Redaction())
    logging.basicConfig(level=level.upper(), handlers=[handler])


def take_over(*names: str) -> None:
    """Send what the loggers *names* and those below them have to say the same way: libraries bring handlers along."""
    for name in list(logging.root.manager.loggerDict):
        if name in names or name.startswith(tuple(f"{each}." for each in names)):
            logger = logging.getLogger(name)
            logger.handlers.clear()
            logger.propagate = True


def _json_formatter() -> logging.Formatter:
    from pythonjsonlogger.json import JsonFormatter  # late: only those who ask for it need it

    return JsonFormatter(
        "%(levelname)s %(name)s %(message)s",
        rename_fields={"levelname": "level", "name": "logger", "exc_info": "traceback"},
        timestamp="time",
    )


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except (TypeError, ValueError):  # arguments that do not fit
        return f"{record.msg} {record.args}"
