"""Values to bytes and back: cloudpickle for code and Python values, JSON for outside workers, frames of many.

Unpickling runs code. Only a caller's own process and the child that runs its function unpickle;
the engine and the server carry bytes. What outside workers get and give is JSON, which runs nothing.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import struct
import traceback
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

import cloudpickle
import msgspec

from . import buffered, references
from .buffered import BUFFERED, LEAST, PROTOCOL, Packed, Piece
from .culprits import culprit
from .errors import DcengineError, InvalidInput, NotJson, NotPicklable, RemoteError, rebuild
from .modules import Accompanied, ship_local_modules_by_value, sources_for, warn_of_edited
from .references import REFERRING, collected
from .verbs import Function

PLAIN = frozenset({int, float, str, bytes, bool, type(None), complex})  #: types that plain pickle carries safely
JSON_PLAIN = frozenset({str, int, bool, type(None)})  #: types that msgspec writes as JSON as Python does
JSON = b"J"  #: begins a value that is JSON text; a pickle begins with 0x80


# ---- many values in one frame --------------------------------------------------------------


def pack(values: Sequence[bytes]) -> bytes:
    """Return *values* as one frame: their number, their sizes, their bytes."""
    return b"".join([_head(list(map(len, values))), *values])


def _head(sizes: list[int]) -> bytes:
    return struct.pack(f"<I{len(sizes)}Q", len(sizes), *sizes)


def unpack(frame: bytes) -> list[bytes]:
    """Return the values of a frame made by `pack`; raises `ValueError` for anything else."""
    try:
        (count,) = struct.unpack_from("<I", frame)
        sizes = struct.unpack_from(f"<{count}Q", frame, 4)
    except struct.error:
        raise ValueError("not a frame of packed values") from None
    at = 4 + 8 * count
    if at + sum(sizes) != len(frame):
        raise ValueError("a frame of packed values is cut short")
    values = []
    for size in sizes:
        values.append(frame[at : at + size])
        at += size
    return values


# ---- values --------------------------------------------------------------------------------


def dumps(value: object, *, what: str = "the value") -> bytes:
    """Return *value* pickled; raises `NotPicklable` that names *what*."""
    pieces = pieces_of(value, what=what)
    return pieces[0] if len(pieces) == 1 and isinstance(pieces[0], bytes) else b"".join(pieces)


def pieces_of(value: object, *, what: str = "the value") -> list[Piece]:
    """Return *value* pickled, in pieces: its large buffers are not copied. Raises `NotPicklable` that names *what*."""
    try:
        if _is_plain(value):
            return [pickle.dumps(value, PROTOCOL)]
        data, buffers = buffered.pickled(value)
    except Exception as error:
        raise _refusal(what, value, error) from error
    return buffered.pieces_of(data, buffers) if buffers else [data]


def loads(data: Packed, *, shared: bool = False) -> Any:
    """Return the value in *data*, whether it is a pickle or JSON; with *shared*, its arrays cannot be written to."""
    kind = data[:1]
    if kind == JSON:
        return _from_json(bytes(data[1:]))
    if kind == REFERRING:
        return loads(unpack(data[1:])[-1], shared=shared)  # type: ignore[arg-type]
    return buffered.loads(data, shared=shared) if kind == BUFFERED else pickle.loads(data)


def keys_in(data: bytes) -> list[bytes]:
    """Return the keys of what the packed value in *data* refers to; nothing is unpickled."""
    return unpack(data[1:])[:-1] if data[:1] == REFERRING else []


def keys_in_head(head: bytes) -> list[bytes]:
    """Return the same for a packed value of which *head* is the beginning; raises `ValueError` if that is too short."""
    if head[:1] != REFERRING:
        return []
    try:
        (count,) = struct.unpack_from("<I", head, 1)
        sizes = struct.unpack_from(f"<{count}Q", head, 5)
    except struct.error:
        raise ValueError("the keys are not all in the head") from None
    starts = list(accumulate(sizes[:-1], initial=5 + 8 * count))
    if starts[-1] > len(head):
        raise ValueError("the keys are not all in the head")
    return [head[start : start + size] for start, size in zip(starts, sizes[:-1], strict=False)]


def standing_for(key: bytes, keys: list[bytes]) -> bytes:
    """Return a packed value that stands for that of *key*, which itself refers to *keys*."""
    return REFERRING + pack([key, *keys, references.standing_for(key)])


def _pickled_with_references(value: object) -> bytes:
    """Return *value* pickled, in a frame with the keys of what it refers to if it does."""
    with collected() as keys:
        data, buffers = buffered.pickled(value)
    if not keys:
        return b"".join(buffered.pieces_of(data, buffers)) if buffers else data
    sizes = list(map(len, keys))
    at = len(REFERRING) + len(_head([*sizes, 0])) + sum(sizes)
    pieces: list[Piece] = buffered.pieces_of(data, buffers, at=at) if buffers else [data]
    return b"".join([REFERRING, _head([*sizes, sum(map(len, pieces))]), *keys, *pieces])


def pack_value(value: object, *, what: str) -> bytes:
    """Return *value* pickled for a worker; raises `NotPicklable` that names *what*."""
    if _is_plain(value):
        return dumps(value, what=what)
    ship_local_modules_by_value()
    try:
        packed = _pickled_with_references(value)
    except Exception as error:
        raise _refusal(what, value, error) from error
    references.refuse_results(keys_in(packed), what)
    return packed


def pack_call(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
    """Return the arguments of one call pickled; raises `NotPicklable` that names the argument."""
    try:
        if all(map(_is_plain, args)) and all(map(_is_plain, kwargs.values())):
            return pickle.dumps((args, kwargs), PROTOCOL)
        ship_local_modules_by_value()
        return _pickled_with_references((args, kwargs))
    except DcengineError:
        raise  # of a handle whose engine does not answer, say: it explains itself
    except Exception as error:
        for name, value in [*((f"argument {n}", v) for n, v in enumerate(args, 1)), *kwargs.items()]:
            dumps(value, what=name if name.startswith("argument ") else f"argument {name!r}")
        raise NotPicklable("the arguments", "tuple", _first_line(error)) from error


def pack_function(function: Callable[..., Any]) -> Function:
    """Return *function* ready to travel; raises `NotPicklable` that names the value inside it."""
    if not callable(function):
        raise NotPicklable("the function", type(function).__name__, "it is not callable")
    ship_local_modules_by_value()
    try:
        code = _pickled_with_references(function)
        if sources := sources_for(function, hashlib.sha256(code).digest()):
            code = _pickled_with_references(Accompanied(function, sources))
    except DcengineError:
        raise
    except Exception as error:
        raise _refusal(f"the function {name_of(function)}", function, error) from error
    warn_of_edited(code)
    return Function(hashlib.sha256(code).digest(), name_of(function), code)


def name_of(function: Callable[..., Any]) -> str:
    """Return the name people know *function* by."""
    inner = getattr(function, "func", function)  # functools.partial
    name = getattr(inner, "__qualname__", type(inner).__qualname__)
    module = getattr(inner, "__module__", None)
    return name if module in (None, "__main__", "builtins") else f"{module}.{name}"


def _is_plain(value: object) -> bool:
    kind = type(value)
    if kind in PLAIN:
        return True
    if kind is tuple or kind is list:
        return len(value) <= 16 and all(type(part) in PLAIN for part in value)  # type: ignore[arg-type, attr-defined]
    if kind.__module__ == "numpy" and kind.__name__ == "ndarray":
        return value.nbytes < LEAST and not value.dtype.hasobject  # type: ignore[attr-defined]
    return False


def _refusal(what: str, value: object, error: Exception) -> NotPicklable:
    """Return the error to raise for *value*, called *what*: it names the part that cannot be pickled."""
    part, reason = culprit(what, value, _why_not, error)
    return NotPicklable(str(part), type(part.value).__name__, _first_line(reason))


def _why_not(value: object) -> Exception | None:
    """Return why *value* cannot be pickled, None if it can."""
    try:
        buffered.pickled(value)
    except Exception as error:
        return error
    return None


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


# ---- values as JSON ------------------------------------------------------------------------

_json_of = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_json_decoder = msgspec.json.Decoder()


def pack_json(value: object, *, what: str) -> bytes:
    """Return *value* as JSON, by the rules of Python's ``json``; raises `NotJson` that names *what*."""
    try:
        # msgspec is fast, but takes bytes, sets, dates ... for texts and lists, and NaN for null.
        if type(value) in JSON_PLAIN:
            return JSON + msgspec.json.encode(value)
        return JSON + _json_of(value).encode()
    except UnicodeEncodeError:  # a lone surrogate, say from a file name that is not UTF-8
        return JSON + json.dumps(value).encode()
    except Exception as error:
        raise NotJson(what, type(value).__name__, _first_line(error)) from error


def is_json(data: bytes) -> bool:
    """Tell whether the packed value in *data* is JSON."""
    return data[:1] == JSON


def json_text(data: bytes) -> bytes:
    """Return the JSON text of a value made by `pack_json`; raises `ValueError` for any other."""
    if not is_json(data):
        raise ValueError("not a value packed as JSON")
    return data[1:]


def _from_json(text: bytes) -> Any:
    try:
        return _json_decoder.decode(text)
    except msgspec.DecodeError:
        return json.loads(text)  # it takes NaN and lone surrogates too


# ---- failures ------------------------------------------------------------------------------


class Failure(msgspec.Struct, frozen=True):
    """An exception as data, safe to show without unpickling."""

    kind: str  #: the class, with its module unless built in
    message: str
    traceback: str = ""  #: as printed on the worker, the runner's own frames left out
    exception: bytes | None = None  #: the pickled exception, where it pickles
    ours: list[Any] | None = None  #: for an error of our own tree, its facts

    @property
    def sentence(self) -> str:
        """What went wrong, in one line."""
        line = f"{self.kind}: {self.message}" if self.message else self.kind
        return line.splitlines()[0][:500]


class RemoteTraceback(Exception):
    """The traceback of the worker, shown as the cause of the exception raised here."""

    def __str__(self) -> str:
        return f"\n\n--- on the worker ---\n{self.args[0]}"


TRACEBACK_LIMIT = 64 * 1024  #: characters of a traceback that are kept: head and tail
EXCEPTION_LIMIT = 1 << 20  #: bytes of a pickled exception


def failure_from(error: BaseException, *, skip_frames: int = 0) -> Failure:
    """Return *error* as data; *skip_frames* outermost frames are ours and left out."""
    # A user's own subclass of ours is the user's: it travels by pickle.
    is_ours = isinstance(error, DcengineError) and type(error).__module__ == DcengineError.__module__
    text = _remote_traceback(error, skip_frames) if skip_frames or not is_ours else ""
    if isinstance(error, DcengineError) and is_ours:
        return Failure(type(error).__name__, str(error), text, ours=error.facts())
    return Failure(_kind_of(error), message_of(error), text, _pickled(error))


REASON_LIMIT = 1000  #: characters of a reason for which an input is flagged


def flag_from(error: InvalidInput, *, skip_frames: int = 0) -> Failure:
    """Return what a function says of its input as data."""
    failure = failure_from(error, skip_frames=skip_frames)
    message = failure.message[:REASON_LIMIT]
    # Where a subclass does not travel, what it says does.
    exception = failure.exception or _pickled(InvalidInput(message))
    return msgspec.structs.replace(failure, kind=InvalidInput.__name__, message=message, exception=exception)


def _remote_traceback(error: BaseException, skip_frames: int) -> str:
    frames = error.__traceback__
    for _ in range(skip_frames):
        frames = frames.tb_next if frames else None
    return head_and_tail("".join(traceback.format_exception(type(error), error, frames)))


def exception_from(failure: Failure) -> BaseException:
    """Return the exception to raise for *failure*, the remote traceback attached as its cause."""
    error = _rebuilt(failure)
    if failure.traceback:
        error.__cause__ = RemoteTraceback(failure.traceback)
    return error


def _rebuilt(failure: Failure) -> BaseException:
    if failure.ours is not None:
        return rebuild(failure.kind, failure.ours)
    if failure.exception is not None:
        try:
            error = loads(failure.exception)
        except Exception:
            return RemoteError(failure.kind, failure.message)
        if isinstance(error, BaseException):
            return error
    return RemoteError(failure.kind, failure.message)


def _pickled(error: BaseException) -> bytes | None:
    """Return *error* pickled if it comes back as itself, else None; one that is huge comes with a shorter message."""
    try:
        data = bytes(cloudpickle.dumps(error, PROTOCOL))
        if len(data) > EXCEPTION_LIMIT and not vars(error) and [*map(type, error.args)] == [str]:
            data = bytes(cloudpickle.dumps(type(error)(head_and_tail(error.args[0])), PROTOCOL))
        return data if type(loads(data)) is type(error) and len(data) <= EXCEPTION_LIMIT else None
    except Exception:
        return None


def _kind_of(error: BaseException) -> str:
    kind = type(error)
    return (
        kind.__qualname__ if kind.__module__ in ("builtins", "__main__") else f"{kind.__module__}.{kind.__qualname__}"
    )


def message_of(error: BaseException) -> str:
    """Return the message of *error*, shortened; an exception's own methods are user code and may fail."""
    try:
        return head_and_tail(str(error))
    except Exception as broken:
        return f"(its message could not be made: {type(broken).__name__})"


def head_and_tail(text: str) -> str:
    """Return *text*, its middle left out where it is longer than anybody would read."""
    if len(text) <= TRACEBACK_LIMIT:
        return text
    half = TRACEBACK_LIMIT // 2
    return f"{text[:half]}\n... {len(text) - 2 * half:,} characters left out ...\n{text[-half:]}"


_encoder, _failure_decoder = msgspec.msgpack.Encoder(), msgspec.msgpack.Decoder(Failure)


def pack_failure(failure: Failure) -> bytes:
    """Return *failure* as bytes."""
    return _encoder.encode(failure)


def unpack_failure(data: bytes) -> Failure:
    """Return the failure packed in *data*."""
    return _failure_decoder.decode(data)
