"""Workloads and protocols that ship with dcengine."""
