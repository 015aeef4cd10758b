"""`camtrack track`: recordings to files of tracks, without ROS."""
