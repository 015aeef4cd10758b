"""Parameter models as ROS parameters: declared from the fields, read back into the model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from math import inf
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo
from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.exceptions import InvalidParameterValueException
from rclpy.node import Node
from rclpy.parameter import Parameter

from camtrack_core.config import (
    P,
    Parameters,
    nested_model,
    nested_values,
    parameter_names,
    refused,
    unknown_name,
    validated,
)

INT64 = 2**63 - 1
TOPICS_OF_ROS = ("/clock", "/parameter_events", "/rosout")
OF_ROS = {"use_sim_time", "start_type_description_service"}  # parameters that every node has


def declare_given(node: Node) -> None:
    """Declare what the node was given, by whatever name.

    An empty list in a file of parameters, as `ros2 param dump` writes it, comes without a type: it is left to the
    default, which is where an empty list comes from.
    """
    for name, given in node._parameter_overrides.items():
        if given.type_ != Parameter.Type.NOT_SET and not node.has_parameter(name):
            node.declare_parameter(name, given.value, ParameterDescriptor(dynamic_typing=True), ignore_override=True)


def declare(node: Node, model: type[Parameters]) -> None:
    """Declare every field of a model, with its default, description and range; nested models as dotted names.

    What the node was given must have been declared before (`declare_given`).
    """
    for name, field, default in _fields(model):
        # Types are the model's business: ROS would refuse a 1 for 1.0, and say so only in a traceback.
        descriptor = ParameterDescriptor(description=field.description or "", dynamic_typing=True)
        if not node.has_parameter(name):
            node.declare_parameter(name, _to_ros(default), descriptor, ignore_override=True)
        _describe_range(descriptor, field)
        # A value out of range stays until configure, which refuses it with a sentence.
        with suppress(InvalidParameterValueException):
            node.set_descriptor(name, descriptor)


def read(node: Node, model: type[P]) -> P:
    """The node's parameters as a model. Raises ConfigurationError."""
    parameters = [node.get_parameter(name) for name in parameter_names(model)]
    return validated(model, nested_values({p.name: p.value for p in parameters if p.type_ != Parameter.Type.NOT_SET}))


def refusals(model: type[Parameters], changes: Iterable[Parameter]) -> list[str]:
    """A sentence for each change that the model does not take, whatever the other values are."""
    values = {change.name: change.value for change in changes if change.type_ != Parameter.Type.NOT_SET}
    return refused(model, nested_values(values), list(values))


def quality_overrides(node: Node) -> list[str]:
    """Names of overrides of a quality of service that the node was given, but for the topics that rclpy itself has."""
    given = [name for name in node._parameter_overrides if name.startswith("qos_overrides.")]
    return [name for name in given if not any(f".{topic}." in name for topic in TOPICS_OF_ROS)]


def strangers(node: Node, model: type[Parameters]) -> list[str]:
    """A sentence for each parameter given to the node that the model does not know."""
    known = parameter_names(model)
    given = node.get_parameters_by_prefix("")
    return [
        unknown_name(name, known)
        for name in given
        if name not in known and name not in OF_ROS and not name.startswith("qos_overrides.")
    ]


def _fields(
    model: type[Parameters], prefix: str = "", defaults: Parameters | None = None
) -> Iterator[tuple[str, FieldInfo, Any]]:
    """Dotted name, field and default of every parameter; None where it must be given.

    What a model that has the nested model as a field takes for its default counts, not the nested model's own.
    """
    for name, field in model.model_fields.items():
        default = _default(field) if defaults is None else getattr(defaults, name)
        nested = nested_model(field.annotation)
        if nested:
            yield from _fields(nested, f"{prefix}{name}.", default)
        else:
            yield prefix + name, field, default


def _default(field: FieldInfo) -> Any:
    return None if field.is_required() else field.get_default(call_default_factory=True, validated_data={})


def _to_ros(value: Any) -> Any:
    """A default as ROS can hold it."""
    if isinstance(value, tuple):
        return list(value)
    return str(value) if isinstance(value, Path) else value


def _describe_range(descriptor: ParameterDescriptor, field: FieldInfo) -> None:
    """Bounds of a number for tools that show sliders; open bounds, which ROS cannot express, as text too."""
    bounds = {
        kind: getattr(constraint, kind)
        for constraint in field.metadata
        for kind in ("gt", "ge", "lt", "le")
        if getattr(constraint, kind, None) is not None
    }
    if not bounds:
        return
    low, high = bounds.get("ge", bounds.get("gt")), bounds.get("le", bounds.get("lt"))
    if field.annotation is int:
        low = -INT64 if low is None else low + ("gt" in bounds)
        high = INT64 if high is None else high - ("lt" in bounds)
        descriptor.integer_range = [IntegerRange(from_value=low, to_value=high, step=0)]
    elif field.annotation is float:
        low, high = (-inf if low is None else float(low)), (inf if high is None else float(high))
        descriptor.floating_point_range = [FloatingPointRange(from_value=low, to_value=high, step=0.0)]
    words = {"gt": "greater than", "ge": "at least", "lt": "less than", "le": "at most"}
    descriptor.additional_constraints = ", ".join(f"{words[kind]} {value}" for kind, value in bounds.items())
