"""The engine over HTTP: an aiohttp application that translates between requests and `Verbs`, and does nothing else.

It mounts below any parent and any prefix: ``parent.add_subapp("/compute/", application(...))``.
"""

from __future__ import annotations

from .access import Access, Role
from .access_log import AccessLog
from .limits import Limits
from .listening import Listening, listen
from .proxies import Proxies
from .rates import Rates
from .routes import application

__all__ = [
    "Access",
    "AccessLog",
    "Limits",
    "Listening",
    "Proxies",
    "Rates",
    "Role",
    "application",
    "listen",
]
