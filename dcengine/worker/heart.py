"""The process that keeps a worker's leases: it beats for all of them while the worker's own code holds Python's lock.

Run by its path, with nothing but the standard library, so that it starts in a moment. Its standard input is a pipe from
the worker: the address first, then a JSON line for whatever changes. On its standard output it says what it was
answered. It ends with its worker, and puts back what that held and had not begun.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import signal
import ssl
import sys
import threading
import time
from typing import Any

SHARE = 3.0  #: beats within one lease
LONGEST = 10.0  #: seconds between two beats, however long the leases are
NEWS = 2.0  #: seconds between two beats that bring news of progress
LOOK = 1.0  #: seconds between two looks whether the worker lives
HELD_UP = 0.25  #: seconds between two looks whether a worker that was held up goes on
SHORTEST = 0.02
LEAST, TIMEOUT = 1.0, 10.0  #: seconds to be answered
AT_ONCE = 1000  #: leases in one request


class Lease:
    """What is known of one task."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.is_begun = False
        self.news: dict[str, Any] = {}  #: progress that was not sent yet


class Heart:
    """Beats until its worker is gone."""

    def __init__(self, parent: int, place: dict[str, Any]) -> None:
        self._parent, self._place = parent, place
        self._leases: dict[str, Lease] = {}
        self._lock = threading.Lock()
        self._woken = threading.Event()
        self._is_over = False  #: nobody is at the other end of the pipe
        self._is_dismissed = False  #: and it has said good-bye
        self._connection: http.client.HTTPConnection | None = None
        self._beaten = time.monotonic() - LONGEST  #: when; before this one there may have been another, that was killed
        self._failed = 0  #: beats in a row that were not answered
        self._is_held_up = False  #: the worker stood still when the last beat was due

    def listen(self) -> None:
        """Take in what the worker says, until it says no more."""
        for line in sys.stdin:
            said = json.loads(line)
            with self._lock:
                self._take_in(said)
            if any(seconds < SHARE * LOOK for _, seconds in said.get("hold", ())):
                self._woken.set()  # it would not have looked in time
        self._is_over = True
        self._woken.set()

    def _take_in(self, said: dict[str, Any]) -> None:
        for token, seconds in said.get("hold", ()):
            self._leases[token] = Lease(seconds)
        for token in said.get("begin", ()):
            if token in self._leases:
                self._leases[token].is_begun = True
        for token, news in said.get("progress", {}).items():
            if token in self._leases:
                self._leases[token].news = news
        for token in said.get("drop", ()):
            self._leases.pop(token, None)
        self._is_dismissed = self._is_dismissed or "bye" in said

    def beat(self) -> None:
        """Keep the leases until the worker is gone."""
        while not self._is_gone():
            pause = self._beaten + self._interval() - time.monotonic()
            if pause <= 0:
                self._beat_once()
            else:
                self._woken.wait(min(pause, LOOK))
                self._woken.clear()
        if not self._is_dismissed:
            self._put_back()

    def _is_gone(self) -> bool:
        # A copy of the worker may hold the pipe open after its death.
        return self._is_over or (hasattr(os, "getppid") and os.name == "posix" and os.getppid() != self._parent)

    def _interval(self) -> float:
        """Return the seconds from the last beat to the next."""
        with self._lock:
            if not self._leases:
                return LONGEST
            shortest = min(LONGEST, _shortest(self._leases) / SHARE)
            has_news = any(lease.news for lease in self._leases.values())
        if self._is_held_up:
            return min(shortest, HELD_UP)  # what it holds is its own for as long as the lease lasts
        if self._failed:
            # Soon again, but not all workers at the same moment.
            return random.uniform(0.0, min(shortest, 0.1 * 2.0 ** min(self._failed, 10)))
        return max(SHORTEST, min(NEWS, shortest) if has_news else shortest)

    # ---- asking ----------------------------------------------------------------------------

    def _beat_once(self) -> None:
        self._beaten = time.monotonic()
        with self._lock:
            leases = dict(self._leases)
            news = {token: lease.news for token, lease in leases.items()}
        self._is_held_up = bool(leases) and _is_stopped(self._parent)
        if not leases or self._is_held_up:
            return
        beats = [{"token": token, **news[token]} for token in leases]
        for start in range(0, len(beats), AT_ONCE):
            answers = self._ask("heartbeat", beats[start : start + AT_ONCE], _patience_with(leases))
            if answers is None:
                return
            self._tell(answers)
        with self._lock:
            for token, lease in leases.items():
                if lease.news is news[token]:
                    lease.news = {}

    def _tell(self, answers: list[dict[str, Any]]) -> None:
        """Tell the worker what it has to know of *answers*."""
        lost = [answer["token"] for answer in answers if not answer["is_accepted"]]
        unwanted = [answer["token"] for answer in answers if answer.get("cancel")]
        with self._lock:
            for token in lost:
                self._leases.pop(token, None)
        if lost or unwanted:
            _say({"lost": lost, "cancel": unwanted})

    def _put_back(self) -> None:
        """Put back what the worker has not begun; what it has may have ended it, which counts when that is late."""
        with self._lock:
            tokens = [token for token, lease in self._leases.items() if not lease.is_begun]
        for start in range(0, len(tokens), AT_ONCE):
            self._ask("release", tokens[start : start + AT_ONCE], TIMEOUT)

    def _ask(self, verb: str, said: list[Any], timeout: float) -> list[dict[str, Any]] | None:
        """Say something of several tasks; return what is answered, None where that does not come."""
        body = json.dumps(said).encode()
        try:
            try:
                answers = self._request(verb, body, timeout)
            except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
                self._close()  # it was idle, and is closed at the other end
                answers = self._request(verb, body, timeout)
        except (OSError, http.client.HTTPException, ValueError) as problem:
            self._close()
            self._failed += 1
            if self._failed == 1:
                _say({"trouble": f"{type(problem).__name__}: {problem}"})
            return None
        self._failed = 0
        return answers

    def _request(self, verb: str, body: bytes, timeout: float) -> list[dict[str, Any]]:
        connection = self._connection = self._connection or self._connected()
        connection.timeout = timeout
        if connection.sock is not None:
            connection.sock.settimeout(timeout)
        connection.request("POST", f"{self._place['path']}/v1/tasks/{verb}", body, self._headers())
        with connection.getresponse() as response:
            answer = response.read()
        if response.status != 200:
            raise ValueError(f"HTTP {response.status}: {answer[:300].decode(errors='replace')}")
        answers: list[dict[str, Any]] = json.loads(answer)
        return answers

    def _headers(self) -> dict[str, str]:
        token = self._place["token"]
        return {"Content-Type": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})}

    def _connected(self) -> http.client.HTTPConnection:
        host, port = self._place["host"], self._place["port"]
        if self._place["tls"]:
            return http.client.HTTPSConnection(host, port, context=ssl.create_default_context())
        return http.client.HTTPConnection(host, port)

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None


def _shortest(leases: dict[str, Lease]) -> float:
    return min(lease.seconds for lease in leases.values())


def _patience_with(leases: dict[str, Lease]) -> float:
    """Return the seconds to wait for the answer to a beat: should it be lost, there is time for another one."""
    return min(TIMEOUT, max(LEAST, _shortest(leases) / 2))


def _say(what: dict[str, Any]) -> None:
    try:
        print(json.dumps(what), flush=True)
    except OSError:  # the worker is gone
        pass


def _is_stopped(process: int) -> bool:
    """Tell whether *process* is held up by Ctrl-Z, SIGSTOP or a debugger, where the system shows that in /proc."""
    try:
        with open(f"/proc/{process}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] in (b"T", b"t")
    except (OSError, IndexError):
        return False


def main() -> None:
    """Be the heart of the process that has started this one."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):  # these are for the worker, which then ends this process
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    place = json.loads(sys.stdin.readline() or "{}")
    if "parent" not in place:  # dismissed before it began
        return
    heart = Heart(place["parent"], place)
    threading.Thread(target=heart.listen, daemon=True).start()
    heart.beat()
    os._exit(0)  # the thread may be reading still, from a pipe that a copy of the worker holds open


if __name__ == "__main__":
    main()
