"""KITTI's tracking benchmark."""
