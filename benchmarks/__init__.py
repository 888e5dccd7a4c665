"""Measurements, one command each, with peers beside us in the same run. Nothing here is a test of speed."""
