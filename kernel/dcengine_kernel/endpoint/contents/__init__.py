"""Files for front ends: Jupyter's contents API over a folder, or wherever fsspec leads."""

from .handlers import routes
from .places import folder_for

__all__ = ["folder_for", "routes"]
