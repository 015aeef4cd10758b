"""Scores, computed by or checked against the official tools."""
