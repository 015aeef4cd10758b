"""Exact association probabilities: the weights, and how they are computed."""
