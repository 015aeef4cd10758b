"""Labels from a teacher: detections, and tracks that are consistent with each other."""
