"""The engine over HTTP: an aiohttp application that translates between requests and `Verbs`, and does nothing else.

It mounts below any parent and any prefix: ``parent.add_subapp("/compute/", application(...))``.
"""

from __future__ import annotations

from .access import Access, Role
from .access_log import AccessLog
from .limits import Limits
from .listening import Listening, listen
from .ports import Port, close_ports, open_ports, places_of
from .proxies import Proxies
from .rates import Rates
from .routes import application
from .workloads import FilledIn, Form, FormField

__all__ = [
    "Access",
    "AccessLog",
    "FilledIn",
    "Form",
    "FormField",
    "Limits",
    "Listening",
    "Port",
    "Proxies",
    "Rates",
    "Role",
    "application",
    "close_ports",
    "listen",
    "open_ports",
    "places_of",
]
