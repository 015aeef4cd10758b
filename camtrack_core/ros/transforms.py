"""Poses to transform messages."""

from __future__ import annotations

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Quaternion as QuaternionMessage
from geometry_msgs.msg import Transform, TransformStamped, Vector3
from std_msgs.msg import Header

from camtrack_core.boxes import Floats
from camtrack_core.camera import Pose


def to_transform(pose: Pose, parent: str, child: str, stamp: Time) -> TransformStamped:
    """The transform that maps points of `child` to `parent`."""
    x, y, z, w = quaternion(pose.rotation).tolist()
    return TransformStamped(
        header=Header(stamp=stamp, frame_id=parent),
        child_frame_id=child,
        transform=Transform(
            translation=Vector3(**dict(zip("xyz", map(float, pose.translation), strict=True))),
            rotation=QuaternionMessage(x=x, y=y, z=z, w=w),
        ),
    )


def quaternion(rotation: Floats) -> Floats:
    """(4,) unit quaternion x, y, z, w of a (3, 3) rotation matrix, w not negative.

    The rotation R of q fixes the symmetric matrix q q^T; its row with the largest diagonal entry, which
    cannot be near zero, is q up to scale.
    """
    r = np.asarray(rotation, np.float64)
    diagonal = np.diag(r)
    products = np.empty((4, 4))  # 4 q q^T, in the order x, y, z, w
    products[:3, :3] = r + r.T
    products[range(3), range(3)] = 1 + 2 * diagonal - diagonal.sum()
    products[3, 3] = 1 + diagonal.sum()
    products[3, :3] = products[:3, 3] = r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1]
    q = products[np.argmax(products.diagonal())]
    q = q / np.linalg.norm(q)
    return -q if q[3] < 0 else q
