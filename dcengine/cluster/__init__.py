"""The Dask cluster: the only room that imports ``distributed``.

`Cluster` starts or joins one, keeps the table of workers with their tags, and carries units to their slots.
"""

from .cluster import Cluster
from .crew import Launched
from .settings import ClusterGone, ClusterSettings, Slot, WorkerGone

__all__ = ["Cluster", "ClusterGone", "ClusterSettings", "Launched", "Slot", "WorkerGone"]
