"""The tracker in space."""
