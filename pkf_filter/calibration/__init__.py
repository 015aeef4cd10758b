"""The filter's parameters from labels."""
