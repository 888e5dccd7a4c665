"""One line per request: what was asked, never with what values, since one of them may be a token."""

from __future__ import annotations

import logging

from aiohttp.abc import AbstractAccessLogger
from aiohttp.web import BaseRequest, StreamResponse

from .access import GRANT
from .proxies import remote_of
from .traffic import ID, NOWHERE, TAKEN


class AccessLog(AbstractAccessLogger):
    """For ``AppRunner(app, access_log_class=AccessLog)``. What it says stands in the record's attributes too."""

    @property
    def enabled(self) -> bool:
        """Whether anybody wants to read it; asked once for each connection."""
        return self.logger.isEnabledFor(logging.INFO)

    def log(self, request: BaseRequest, response: StreamResponse, time: float) -> None:
        grant, taken, remote = request.get(GRANT), request.get(TAKEN), remote_of(request)
        path = NOWHERE if taken is None else taken.path
        milliseconds = round(time * 1000, 1)
        self.logger.info(
            "%s %s %s %d %.1f ms", remote, ascii(request.method)[1:-1], path, response.status, milliseconds,
            extra={
                "method": request.method,
                "path": path,
                "status": response.status,
                "ms": milliseconds,
                "remote": remote,
                "grant": None if grant is None else "own" if grant.id is None else grant.id,
                "request_id": request.get(ID),
            },
        )  # fmt: skip
