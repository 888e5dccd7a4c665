"""One line per request, without what follows the question mark: that may be a token."""

from __future__ import annotations

from aiohttp.abc import AbstractAccessLogger
from aiohttp.web import BaseRequest, StreamResponse


class AccessLog(AbstractAccessLogger):
    """For ``AppRunner(app, access_log_class=AccessLog)``."""

    def log(self, request: BaseRequest, response: StreamResponse, time: float) -> None:
        self.logger.info(
            "%s %s %s %d %.1f ms", request.remote, request.method, ascii(request.path), response.status, time * 1000
        )
