"""Nodes beside the trackers: replay and the recorders."""
