"""SROS 2's policy of the nodes that run: what each of them may publish, subscribe, offer and ask for, no more.

`ros2 security create_keystore` and the like, on a ROS host, make keys and permissions of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from camtrack_core.errors import DataError
from camtrack_core.files import write_whole

VERSION = "0.2.0"  # of the policy's format
OWN_NAME = "camtrack_policy"
# What a policy calls it, and how a node of rclpy is asked for it.
KINDS = (
    ("topics", "topic", "publish", "get_publisher_names_and_types_by_node"),
    ("topics", "topic", "subscribe", "get_subscriber_names_and_types_by_node"),
    ("services", "service", "reply", "get_service_names_and_types_by_node"),
    ("services", "service", "request", "get_client_names_and_types_by_node"),
)


@dataclass(frozen=True)
class Rights:
    """What a node uses.

    Attributes:
        name, namespace: of the node.
        used: names of topics and services by what they are (topics, services) and what is done with them.
    """

    name: str
    namespace: str
    used: dict[tuple[str, str], tuple[str, ...]]


def rights_of(observer: Any) -> list[Rights]:
    """What every other node of the graph uses, in the order of their names, as `observer`, a node, sees it."""
    nodes = sorted((namespace, name) for name, namespace in observer.get_node_names_and_namespaces())
    return [
        Rights(
            name,
            namespace,
            {(kind, act): _names(getattr(observer, ask), name, namespace) for kind, _, act, ask in KINDS},
        )
        for namespace, name in nodes
        if name != observer.get_name()
    ]


def _names(ask: Callable[[str, str], list[tuple[str, list[str]]]], name: str, namespace: str) -> tuple[str, ...]:
    try:
        return tuple(sorted(found for found, _ in ask(name, namespace)))
    except Exception:  # a node that has just gone
        return ()


def policy(rights: list[Rights]) -> str:
    """The policy as XML: an enclave for each node, which allows what it uses."""
    root = ElementTree.Element("policy", version=VERSION)
    enclaves = ElementTree.SubElement(root, "enclaves")
    for node in rights:
        path = f"{node.namespace.rstrip('/')}/{node.name}"
        profiles = ElementTree.SubElement(ElementTree.SubElement(enclaves, "enclave", path=path), "profiles")
        profile = ElementTree.SubElement(profiles, "profile", ns=node.namespace, node=node.name)
        for kind, single, act, _ in KINDS:
            names = node.used[kind, act]
            if names:
                allowed = ElementTree.SubElement(profile, kind, {act: "ALLOW"})
                for name in names:
                    ElementTree.SubElement(allowed, single).text = name
    ElementTree.indent(root)
    return ElementTree.tostring(root, "unicode", xml_declaration=True) + "\n"


def write_policy(out: Path, seconds: float) -> list[Rights]:
    """Writes the policy of the nodes that are found within so many seconds.

    Raises DataError where none is, or where the file is there or cannot be written.
    """
    import rclpy

    if out.exists():
        raise DataError(f"{out} is there already; expected the name of a file to be made")
    rclpy.init()
    observer = rclpy.create_node(OWN_NAME, enable_rosout=False, start_parameter_services=False)
    try:
        time.sleep(seconds)  # discovery runs in threads of its own
        rights = rights_of(observer)
    finally:
        observer.destroy_node()
        rclpy.try_shutdown()
    if not rights:
        raise DataError(f"expected running nodes on this ROS domain, found none within {seconds:g} s")
    try:
        write_whole(out, policy(rights))
    except OSError as error:
        raise DataError(f"cannot write {out}: {error.strerror}") from error
    return rights
