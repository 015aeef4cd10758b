"""Launch files without a ROS installation: what they say, and processes that follow."""
