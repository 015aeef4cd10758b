"""Ground floor of camtrack: the vocabulary that all trackers and nodes share. No ROS, no networks."""
