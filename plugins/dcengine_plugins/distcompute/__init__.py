"""DistCompute: the protocol of LAION's trackers, for the unmodified ``distcompute-client`` 1.0.0.

`tracker` answers its calls, `repeats` knows what is said again because an answer was lost, `wire` is how values look
on the way, `pages` what people see in a browser.
"""

from __future__ import annotations

from dcengine.protocols import Protocol, Route

from . import pages
from .tracker import Tracker

LEASE_SECONDS = 7200.0  #: without a word: jobs are long, and their programs say little
VOTES = 5
BODY_LIMIT = 16 << 20  #: bytes; what old clients hand in can have some millions


def protocol() -> Protocol:
    """Return the protocol; found through the entry point of its name."""
    tracker = Tracker()
    return Protocol(
        "distcompute",
        "DistCompute (LAION)",
        (
            Route("GET", "/api/new", tracker.new),
            Route("POST", "/api/validateWorker", tracker.validate_worker),
            Route("GET", "/api/jobCount", tracker.job_count),
            Route("POST", "/api/newJob", tracker.new_job),
            Route("POST", "/api/updateProgress", tracker.update_progress),
            Route("POST", "/api/completeJob", tracker.complete_job),
            Route("POST", "/api/flagInvalidData", tracker.flag_invalid_data),
            Route("POST", "/api/bye", tracker.bye),
            Route("GET", "", pages.to_index),
            Route("GET", "/", pages.index),
            Route("GET", "/leaderboard", pages.leaderboard),
            Route("GET", "/worker/{stage}/{name}", pages.worker),
            Route("GET", "/style.css", pages.style),
        ),
        lease_seconds=LEASE_SECONDS,
        votes=VOTES,
        body_limit=BODY_LIMIT,
    )
