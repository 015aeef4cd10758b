"""nuScenes' scores, by the official devkit, and its submissions."""
