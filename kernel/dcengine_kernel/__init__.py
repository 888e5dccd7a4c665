"""The dcengine Jupyter kernel."""
