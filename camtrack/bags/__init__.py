"""ROS 2 bags: recordings written as bags, results read from them."""
