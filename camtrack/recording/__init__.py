"""What the recorders write."""
