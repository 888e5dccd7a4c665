"""The dcengine Jupyter kernel: a stock IPython kernel that starts with our extension."""
