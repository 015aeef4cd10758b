"""ROS 2 bags as sequences of frames."""
