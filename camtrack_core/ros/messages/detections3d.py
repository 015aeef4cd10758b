"""Boxes and tracks in space to vision_msgs and back, trajectories and markers.

A box's orientation maps its own axes (x along its length, y along its width, z up) to the frame of the header, which
may be a camera's optical frame. Boxes that are not finite are never published and never taken in.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np
from builtin_interfaces.msg import Duration
from geometry_msgs.msg import Point, Pose, Quaternion, Vector3
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

from camtrack_core.geometry.boxes import Boxes3D, Detections3D, Floats, Integers
from camtrack_core.geometry.camera import Pose as Placement
from camtrack_core.geometry.tracks import Tracks3D
from camtrack_core.ros.messages.cdr3d import Detections3DMessage, pack_detections, pack_trajectories
from camtrack_core.ros.tf.transforms import quaternion

LEAST_VARIANCE = 1e-9  # of a covariance that is positive definite
UNKNOWN = 1e6  # variance of what is not estimated: roll and pitch, rad^2
POSED = np.array([0, 1, 2, 5])  # x, y, z and the rotation about z, of the six of a pose
UNKNOWN_VELOCITY = (np.nan, np.nan, np.nan)
LIFETIME = 1.0  # seconds that a marker stays without a new one
LABEL_HEIGHT = 0.8  # metres
COLOURS = ((0.12, 0.47, 0.71), (1.0, 0.5, 0.05), (0.17, 0.63, 0.17), (0.84, 0.15, 0.16), (0.58, 0.4, 0.74))


def to_detections(
    message: Detections3DMessage,
    class_id: Callable[[str], int],
    pose: Placement,
    velocities: Mapping[str, Sequence[float]] = MappingProxyType({}),
) -> Detections3D:
    """Detections of a message, each by its best result, in the frame that `pose` maps to from the message's.

    Left out are those that are not finite, have no result, or whose class has no id (`class_id` gives -1).

    Args:
        velocities: of detections over ground by their id, m/s along the axes of the message's frame; NaN and missing
            ones are unknown.
    """
    kept, class_ids = _usable(message, class_id)
    poses = message.poses[kept]
    x, y, z, w = (poses[:, 3:] / np.linalg.norm(poses[:, 3:], axis=1, keepdims=True)).T
    length_axis = np.stack([1 - 2 * (y * y + z * z), 2 * (x * y + z * w), 2 * (x * z - y * w)], 1) @ pose.rotation.T
    yaw = np.arctan2(length_axis[:, 1], length_axis[:, 0])
    velocity = np.full((len(poses), 3), np.nan)
    if velocities:
        known = [velocities.get(name, UNKNOWN_VELOCITY) for name in itertools.compress(message.ids, kept.tolist())]
        velocity = np.array(known, np.float64).reshape(-1, 3) @ pose.rotation.T
    boxes = Boxes3D(pose.apply(poses[:, :3]), message.sizes[kept], yaw, velocity)
    return Detections3D(boxes, message.scores[kept], class_ids[kept], message.motions[kept])


def stated_covariances(message: Detections3DMessage, class_id: Callable[[str], int], pose: Placement) -> Floats:
    """(N, 4, 4) of x, y, z and yaw that the detections of `to_detections` state, which see, in the same frame.

    NaN where there is none: zeros, or anything else that is not finite or not positive definite.
    """
    covariances = message.covariances[_usable(message, class_id)[0]]
    turn = np.kron(np.eye(2), pose.rotation)
    with np.errstate(invalid="ignore", over="ignore"):
        found = (turn @ covariances @ turn.T)[:, POSED[:, None], POSED]
        found = (found + found.swapaxes(1, 2)) / 2
    finite = np.isfinite(found).all((1, 2))
    least = np.linalg.eigvalsh(np.where(finite[:, None, None], found, 0.0))[:, 0]
    found[least < LEAST_VARIANCE] = np.nan  # of those that are not finite it is 0
    return np.asarray(found)


def _usable(message: Detections3DMessage, class_id: Callable[[str], int]) -> tuple[np.ndarray, Integers]:
    """(N,) which detections are usable, and (N,) ids of their classes."""
    numbers = np.concatenate([message.scores[:, None], message.poses, message.sizes], 1)
    norm = np.linalg.norm(message.poses[:, 3:], axis=1)
    known_ids = {name: -1 if name is None else class_id(name) for name in dict.fromkeys(message.names)}
    class_ids = np.array([known_ids[name] for name in message.names], np.int64)
    return np.isfinite(numbers).all(1) & (class_ids >= 0) & (np.abs(norm - 1) < 0.1), class_ids


def pack_boxes(detections: Detections3D, names: Sequence[str], header: Header, upright: Floats) -> bytes:
    """Serialised detections without ids.

    Args:
        detections: in a frame with z up, at the place of the header's frame.
        upright: (3, 3) rotation from that frame to the header's: the identity where the header's has z up.
    """
    detections = detections[_finite(detections.boxes, detections.scores)]
    poses = _poses(detections.boxes, upright)
    labels = [names[row] for row in detections.class_ids]
    covariances = np.zeros((len(poses), 6, 6))
    return pack_detections(
        header, [""] * len(poses), labels, detections.scores, poses, covariances, detections.boxes.size,
        detections.motions,
    )  # fmt: skip


def pack_tracks(tracks: Tracks3D, names: Sequence[str], header: Header, upright: Floats | None = None) -> bytes:
    """Serialised tracks with ids and the covariance of the pose.

    Args:
        tracks: in a frame with z up, at the place of the header's frame.
        upright: (3, 3) rotation from that frame to the header's; None where the header's has z up.
    """
    finite = _finite(tracks.boxes, tracks.scores)
    if not finite.all():
        tracks = tracks[finite]
    covariances = np.zeros((len(tracks), 6, 6))
    covariances[:, 3, 3] = covariances[:, 4, 4] = UNKNOWN
    covariances[:, POSED[:, None], POSED] = tracks.covariance
    if upright is not None:
        turn = np.kron(np.eye(2), upright)
        covariances = turn @ covariances @ turn.T
    labels = [names[row] for row in tracks.class_ids]
    ids = [str(track) for track in tracks.ids.tolist()]
    poses = _poses(tracks.boxes, upright)
    return pack_detections(header, ids, labels, tracks.scores, poses, covariances, tracks.boxes.size, tracks.motions)


def pack_velocities(tracks: Tracks3D, header: Header, upright: Floats) -> bytes:
    """Serialised MultiDOFJointTrajectory of one point at the header's stamp: pose and velocity of each track.

    The joint names are the ids of `pack_tracks`; a velocity that is not known is NaN. `upright` is as there.
    """
    tracks = tracks[_finite(tracks.boxes, tracks.scores)]
    velocities = tracks.boxes.velocity @ upright.T
    twists = np.concatenate([velocities, np.full_like(velocities, np.nan)], 1)
    ids, now = [str(track) for track in tracks.ids], np.zeros(1, np.int64)
    return pack_trajectories(header, ids, now, _poses(tracks.boxes, upright)[None], twists[None])


def pack_motion(ids: Integers, header: Header, offsets: Integers, places: Floats, velocities: Floats) -> bytes:
    """Serialised trajectories; NaN where a track does not exist.

    Args:
        ids: (N,), the joint names.
        offsets: (T,) nanoseconds from the header's stamp.
        places: (T, N, 4) x, y, z in metres and yaw in radians.
        velocities: (T, N, 4) of the same, per second.
    """
    turn = places[..., 3:] / 2
    transforms = np.concatenate([places[..., :3], 0 * turn, 0 * turn, np.sin(turn), np.cos(turn)], -1)
    nothing = 0 * velocities[..., :2]
    twists = np.concatenate([velocities[..., :3], nothing, velocities[..., 3:]], -1)
    return pack_trajectories(header, [str(track) for track in ids], offsets, transforms, twists)


def to_markers(tracks: Tracks3D, names: Sequence[str], header: Header) -> MarkerArray:
    """A box, an arrow of a second's way and a label for each track; old ones vanish by themselves."""
    markers = MarkerArray()
    lifetime = Duration(sec=int(LIFETIME), nanosec=int(LIFETIME % 1 * 1e9))
    poses, boxes = _poses(tracks.boxes), tracks.boxes
    for row, track in enumerate(tracks.ids.tolist()):
        red, green, blue = COLOURS[track % len(COLOURS)]
        pose = Pose(
            position=Point(**dict(zip("xyz", poses[row, :3].tolist(), strict=True))),
            orientation=Quaternion(**dict(zip("xyzw", poses[row, 3:].tolist(), strict=True))),
        )
        common = {"header": header, "id": track % 2**31, "lifetime": lifetime, "action": Marker.ADD}
        box = Marker(ns="boxes", type=Marker.CUBE, pose=pose, color=ColorRGBA(r=red, g=green, b=blue, a=0.5), **common)
        box.scale = Vector3(**dict(zip("xyz", boxes.size[row].tolist(), strict=True)))
        start, way = boxes.centre[row], boxes.velocity[row]
        arrow = Marker(ns="velocity", type=Marker.ARROW, color=ColorRGBA(r=red, g=green, b=blue, a=0.9), **common)
        arrow.points = [Point(**dict(zip("xyz", place.tolist(), strict=True))) for place in (start, start + way)]
        arrow.scale = Vector3(x=0.15, y=0.3, z=0.3)
        label = Marker(ns="labels", type=Marker.TEXT_VIEW_FACING, color=ColorRGBA(r=1.0, g=1.0, b=1.0, a=1.0), **common)
        label.text = f"{names[tracks.class_ids[row]]} {track}"
        label.scale.z = LABEL_HEIGHT
        label.pose.position.x, label.pose.position.y = float(start[0]), float(start[1])
        label.pose.position.z = float(start[2] + boxes.size[row, 2] / 2 + LABEL_HEIGHT)
        markers.markers += [box, arrow, label]
    return markers


def _poses(boxes: Boxes3D, upright: Floats | None = None) -> Floats:
    """(N, 7) centre and orientation, after a rotation (3, 3) from the boxes' frame if given."""
    nothing = np.zeros(len(boxes))
    turns = np.stack([nothing, nothing, np.sin(boxes.yaw / 2), np.cos(boxes.yaw / 2)], 1)
    if upright is None:
        return np.concatenate([boxes.centre, turns], 1)
    x, y, z, w = quaternion(upright).tolist()
    _, _, c, d = turns.T
    turned = np.stack([x * d + y * c, y * d - x * c, z * d + w * c, w * d - z * c], 1)
    return np.concatenate([boxes.centre @ upright.T, turned], 1)


def _finite(boxes: Boxes3D, scores: Floats) -> np.ndarray:
    return np.isfinite(boxes.centre).all(1) & np.isfinite(boxes.size).all(1) & np.isfinite(boxes.yaw + scores)
