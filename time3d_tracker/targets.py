"""Training targets of one image. Pure functions of numpy arrays, run by the data loader."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from camtrack_core.datasets.frames import Labels
from camtrack_core.geometry.boxes import Boxes3D, Floats, Integers
from camtrack_core.geometry.camera import Pose
from camtrack_core.training import gaussians
from camtrack_core.training.augmentation import View
from time3d_tracker import level
from time3d_tracker.config import KEYPOINTS, NetworkConfig

MAX_OBJECTS = 64  # a frame; the rest, the farthest, is left out of the losses
SOMEWHERE = 30.0  # metres ahead; the place of objects that have none is there, behind the middle of their boxes
NEAREST = 1.0  # metres from the camera to an object's centre along the view; closer ones are not asked for
KEYPOINT_NEAREST = 0.5  # metres; key points closer have no stable image
KEYPOINT_REACH = 2.0  # box sizes; key points farther from the middle of the 2D box are not asked for

Target = dict[str, NDArray]
MIRROR = np.diag([-1.0, 1.0, 1.0])


def view_matrix(view: View) -> Floats:
    """(3, 3) pixels of the view from homogeneous pixels of its source."""
    matrix = np.array([[view.scale, 0, view.shift[0]], [0, view.scale, view.shift[1]], [0, 0, 1.0]])
    return np.array([[-1.0, 0, view.width], [0, 1, 0], [0, 0, 1]]) @ matrix if view.flip else matrix


def view_projection(view: View, intrinsics: Floats, camera_pose: Pose) -> Floats:
    """(3, 3) pixels of the view from level coordinates; those of the mirrored world where the view is mirrored."""
    projection = view_matrix(view) @ level.projection(intrinsics, camera_pose)
    return projection @ MIRROR if view.flip else projection


def view_boxes(view: View, boxes: Boxes3D, pose: Pose) -> tuple[Floats, Floats, Floats, Pose]:
    """Boxes of the fixed frame as the view shows them.

    Returns:
        centre (N, 3), yaw (N,), velocity (N, 3) in the level frame, and that frame's pose in the fixed frame, both
        mirrored where the view is: then the pose is a reflection that leads back to the true places.
    """
    centre, yaw, velocity = level.to_level(boxes, pose)
    if not view.flip:
        return centre, yaw, velocity, pose
    return centre @ MIRROR, np.pi - yaw, velocity @ MIRROR, Pose(pose.rotation @ MIRROR, pose.translation)


def keypoints(
    centre: Floats, size: Floats, yaw: Floats, projection: Floats, xyxy: Floats
) -> tuple[Floats, NDArray[np.bool_]]:
    """Key points (N, 9, 2) in pixels, and which of them are asked for (N, 9)."""
    points = np.concatenate([level.corners(centre, size, yaw), centre[:, None]], 1)
    image = points @ projection.T
    depth = image[..., 2:]
    pixels = image[..., :2] / np.maximum(depth, KEYPOINT_NEAREST)
    middle, extent = (xyxy[:, :2] + xyxy[:, 2:]) / 2, xyxy[:, 2:] - xyxy[:, :2]
    near = np.abs(pixels - middle[:, None]) <= KEYPOINT_REACH * extent[:, None]
    return pixels, (depth[..., 0] > KEYPOINT_NEAREST) & near.all(-1)


def build(
    labels: Labels, boxes: Boxes3D, attributes: Integers, ignored: Floats, view: View, intrinsics: Floats, pose: Pose,
    config: NetworkConfig,
) -> Target:  # fmt: skip
    """Targets of a view of one frame.

    Args:
        labels: as the view shows them (`camtrack_core.training.augmentation.see`).
        boxes: (N) in the fixed frame, same rows; NaN where the label is in the image alone, which may have a yaw.
        attributes: (N,) motion.
        ignored: (M, 4) regions, pixels of the view.
        intrinsics, pose: of the camera that took the source.

    Returns:
        heatmap, counted, projection (3, 3), pose_rotation (3, 3) and pose_translation (3,) of the level frame, and,
        padded to MAX_OBJECTS rows: ids (-1 for none), class_ids, cells (column, row), box2d, in_space (whether the rest
        is known), heading_alone (whether of the rest just the yaw is), keypoints, keypoints_asked, size, yaw,
        translation, motion_known, velocity, attributes.
    """
    projection = view_projection(view, intrinsics, pose)
    centre, yaw, velocity, level_pose = view_boxes(view, boxes, level.level_pose(pose))
    in_space = np.isfinite(centre).all(1).reshape(-1)
    heading_alone = np.isfinite(yaw) & ~in_space
    centre = np.where(in_space[:, None], centre, _somewhere(labels.xyxy, projection))
    yaw = np.where(in_space | heading_alone, yaw, 0.0)
    size = np.where(in_space[:, None], boxes.size, 1.0)
    ahead = centre @ projection[2] > NEAREST
    ignored = np.concatenate([ignored, labels.xyxy[~ahead]])
    rows = np.flatnonzero(ahead)
    rows = rows[np.argsort(centre[rows, 2], kind="stable")]
    hidden, rows = rows[MAX_OBJECTS:], rows[:MAX_OBJECTS]
    ignored = np.concatenate([ignored, labels.xyxy[hidden]])
    xyxy, class_ids = labels.xyxy[rows], labels.class_ids[rows]
    pixels, asked = keypoints(centre[rows], size[rows], yaw[rows], projection, xyxy)
    target, counted = gaussians.build(xyxy, class_ids, ignored, len(config.class_names), config.stride, config.map_size)
    motion_known = np.isfinite(velocity[rows].sum(1)).reshape(-1)
    objects: Target = {
        "ids": labels.ids[rows].astype(np.int64),
        "class_ids": class_ids.astype(np.int64),
        "cells": gaussians.centre_cells(xyxy, config.stride, config.map_size),
        "box2d": xyxy,
        "in_space": in_space[rows],
        "heading_alone": heading_alone[rows],
        "keypoints": pixels,
        "keypoints_asked": asked,
        "size": size[rows],
        "yaw": yaw[rows],
        "translation": centre[rows],
        "motion_known": motion_known,
        "velocity": np.where(motion_known[:, None], velocity[rows], 0.0),
        "attributes": attributes[rows].astype(np.int64),
    }
    assert objects["keypoints"].shape[1:] == (KEYPOINTS, 2)
    return {
        "heatmap": target,
        "counted": counted,
        "projection": projection.astype(np.float32),
        "pose_rotation": level_pose.rotation,
        "pose_translation": level_pose.translation,
    } | {name: _padded(values, -1 if name == "ids" else 0) for name, values in objects.items()}


def _somewhere(xyxy: Floats, projection: Floats) -> Floats:
    """(N, 3) in the level frame, in the middle of boxes."""
    middle = np.column_stack([xyxy[:, :2] + xyxy[:, 2:], np.full(len(xyxy), 2.0)]) / 2
    ray = middle @ np.linalg.inv(projection).T
    return SOMEWHERE * ray / ray[:, 2:]


def _padded(values: NDArray, fill: int) -> NDArray:
    kind = np.float32 if values.dtype == np.float64 else values.dtype
    padded = np.full((MAX_OBJECTS, *values.shape[1:]), fill, kind)
    padded[: len(values)] = values
    return padded
