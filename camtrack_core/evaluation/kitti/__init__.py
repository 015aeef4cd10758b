"""KITTI's scores, and its text."""
