"""Tags: what jobs ask of workers, what workers offer, and why nobody matches. No I/O."""

from .explanations import Explanation, explain
from .expressions import Devices, Expression
from .offers import Offer, devices_offered, parse_offer
from .quantities import compare, quantity
from .reading import SESSION, parse
from .wishes import LOOKED_UP, devices_of, looked_up, session_of, with_devices, with_session, with_versions

__all__ = [
    "LOOKED_UP",
    "SESSION",
    "Devices",
    "Explanation",
    "Expression",
    "Offer",
    "compare",
    "devices_of",
    "devices_offered",
    "explain",
    "looked_up",
    "parse",
    "parse_offer",
    "quantity",
    "session_of",
    "with_devices",
    "with_session",
    "with_versions",
]
