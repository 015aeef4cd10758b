"""Between ROS and arrays: conversions, quality of service, parameters and the lifecycle base node."""
