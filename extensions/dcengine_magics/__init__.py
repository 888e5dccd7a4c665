"""The dcengine IPython extension."""
