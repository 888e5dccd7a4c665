"""The old farm: workers and clients of the peer-to-peer render system, unmodified, over TCP on a port of its own.

`wire` knows how messages look, `listener` who is at the other end, `farm` which of the `workers` renders what,
`stand_ins` who does while there are none, `clients` and `jobs` what a commander asks for and gets, `scenes` and
`pictures` what travels.
"""

from __future__ import annotations

from dcengine.protocols import Listener, Protocol
from dcengine.verbs import Verbs

LEASE_SECONDS = 15.0  #: after which frames of an engine that was killed are handed out again


def protocol() -> Protocol:
    """Return the protocol; found through the entry point of its name."""
    return Protocol("p2p", "the old peer-to-peer render farm", (), lease_seconds=LEASE_SECONDS, listener=_listener)


def _listener(verbs: Verbs) -> Listener:
    from .listener import listener  # late: it loads what renders, and most engines open no port

    return listener(verbs)
