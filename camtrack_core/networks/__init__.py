"""What the networks of both trackers are made of."""
