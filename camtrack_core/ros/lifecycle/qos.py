"""Quality of service: every profile of this project by name, and what keeps two ends from talking."""

from __future__ import annotations

from typing import Any

from rclpy.duration import Infinite
from rclpy.node import Node
from rclpy.qos import (
    DurabilityPolicy,
    LivelinessPolicy,
    QoSCompatibility,
    QoSProfile,
    ReliabilityPolicy,
    qos_check_compatible,
)

# Cameras: the newest images matter, a lost one is not sent again. Depth 1 loses images at 60 Hz.
SENSOR_DATA = QoSProfile(depth=3, reliability=ReliabilityPolicy.BEST_EFFORT)
# Tracks and detections: every one counts, also for who has just been busy for a few frames.
RESULTS = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
# What a late subscriber must still learn, such as the end of a recording.
LATCHED = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
# Transforms and diagnostics: as tf2 and diagnostic_updater have them.
TRANSFORMS = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE)
# Every publisher of static transforms sends one message, so that a depth of 1 would lose some.
STATIC_TRANSFORMS = QoSProfile(
    depth=100, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL
)
DIAGNOSTICS = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
# The simulated clock: reliable on our side, which suits every kind of subscriber.
CLOCK = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)


def type_name(message_type: type) -> str:
    """Name of a message type as the graph knows it, e.g. sensor_msgs/msg/Image."""
    return f"{message_type.__module__.split('.')[0]}/msg/{message_type.__name__}"


def deaf_to(node: Node, subscription: Any) -> list[str]:
    """A sentence for each publisher on a subscription's topic whose messages cannot arrive."""
    expected = type_name(subscription.msg_type)
    faults = []
    for other in node.get_publishers_info_by_topic(subscription.topic_name):
        fault = _fault(expected, other.topic_type, other.qos_profile, _explicit(subscription.qos_profile))
        if fault:
            faults.append(f"nothing arrives from {node_name(other)} on {subscription.topic_name}: {fault}")
    return faults


def unheard_by(node: Node, publisher: Any) -> list[str]:
    """A sentence for each subscriber on a publisher's topic that our messages cannot reach."""
    offered = type_name(publisher.msg_type)
    faults = []
    for other in node.get_subscriptions_info_by_topic(publisher.topic_name):
        fault = _fault(other.topic_type, offered, _explicit(publisher.qos_profile), other.qos_profile)
        if fault:
            faults.append(f"nothing reaches {node_name(other)} on {publisher.topic_name}: {fault}")
    return faults


def _explicit(profile: QoSProfile) -> QoSProfile:
    """A requested profile as the graph would show it: a duration of zero stands for "not limited"."""
    return QoSProfile(
        depth=profile.depth,
        reliability=profile.reliability,
        durability=profile.durability,
        deadline=profile.deadline if profile.deadline.nanoseconds else Infinite,
        liveliness=profile.liveliness or LivelinessPolicy.AUTOMATIC,
        liveliness_lease_duration=(
            profile.liveliness_lease_duration if profile.liveliness_lease_duration.nanoseconds else Infinite
        ),
    )


def _fault(expected: str, offered: str, publisher: QoSProfile, subscription: QoSProfile) -> str:
    if expected != offered:
        return f"it expects {expected}, the publisher offers {offered}"
    compatibility, reason = qos_check_compatible(publisher, subscription)
    if compatibility == QoSCompatibility.ERROR:
        return f"incompatible quality of service ({reason.removeprefix('ERROR: ').rstrip('; ')})"
    return ""


def node_name(endpoint: Any) -> str:
    """Full name of the node that an endpoint belongs to."""
    return f"{endpoint.node_namespace.rstrip('/')}/{endpoint.node_name}"
