"""The engine's verbs over HTTP: what a process that does not own the engine talks through."""

from __future__ import annotations

from .batches import AboutBatches
from .cluster import AboutCluster
from .contributors import AboutContributors
from .events import AboutEvents
from .failures import AboutFailures
from .jobs import STATE_HEADER, AboutJobs
from .leases import AboutLeases
from .mine import AboutMe
from .outsiders import AboutOutsiders
from .projects import AboutProjects
from .tokens import AboutTokens
from .upkeep import AboutUpkeep
from .values import AboutValues
from .webhooks import AboutWebhooks

__all__ = ["STATE_HEADER", "Client"]


class Client(
    AboutJobs,
    AboutBatches,
    AboutProjects,
    AboutLeases,
    AboutCluster,
    AboutUpkeep,
    AboutValues,
    AboutTokens,
    AboutContributors,
    AboutOutsiders,
    AboutEvents,
    AboutFailures,
    AboutMe,
    AboutWebhooks,
):
    """Asks for the verbs; what is asked again because an answer was lost is done once."""
