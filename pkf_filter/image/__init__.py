"""The tracker in the image plane."""
