"""Parameters: what a model refuses and how it says so; models as ROS parameters."""

from __future__ import annotations

from math import inf, nan
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from pydantic import Field, field_validator, model_validator
from rcl_interfaces.msg import ParameterType
from rclpy.node import Node
from rclpy.parameter import Parameter
from ros_helpers import Graph, opened_graph

from camtrack.nodes.recorder import RecorderNode, RecorderParameters
from camtrack.nodes.replay import ReplayNode, ReplayParameters
from camtrack.nodes.space_recorder import SpaceRecorderNode, SpaceRecorderParameters
from camtrack_core.config import Parameters, nested_values, parameter_names, validated
from camtrack_core.errors import ConfigurationError
from camtrack_core.ros.lifecycle.node import CamtrackNode
from camtrack_core.ros.lifecycle.parameters import declare, declare_given, read, refusals, strangers
from gcnet_tracker.node import GCNetNode, GCNetParameters
from pkf_filter.ros.autoware import AutowareNode
from pkf_filter.ros.node import PkfNode, PkfParameters
from time3d_tracker.node import Time3DNode, Time3DParameters


class Gate(Parameters):
    size: float = Field(9.2, gt=0, description="Mahalanobis distance squared")
    shape: Literal["ellipse", "box"] = "ellipse"


class Example(Parameters):
    model: str = Field(description="ONNX file")
    threshold: float = Field(0.5, ge=0, le=1, description="least score")
    slots: int = Field(128, gt=0, lt=1000)
    half: bool = False
    total: int = 0
    names: tuple[str, ...] = ("car", "bus")
    folder: Path = Path("out")
    horizon: float | None = None
    gate: Gate = Gate()

    @field_validator("names")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if "cat" in value:
            raise ValueError(f"expected road users, got {value}")
        return value

    @model_validator(mode="after")
    def _fits(self) -> Example:
        if self.half and self.slots > 500:
            raise ValueError(f"expected at most 500 slots in half precision, got {self.slots}")
        return self


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({}, r"^parameter 'model': expected a value, got none$"),
        ({"model": "m", "threshold": 2}, r"^parameter 'threshold': expected less than or equal to 1, got 2$"),
        ({"model": "m", "total": 2**63}, rf"^parameter 'total': expected a whole number of 64 bits, got {2**63}$"),
        ({"model": "m", "horizon": inf}, r"^parameter 'horizon': expected a finite number, got inf$"),
        ({"model": "m", "threshold": nan}, r"^parameter 'threshold': expected a finite number, got nan$"),
        ({"model": "m", "slots": 0}, r"^parameter 'slots': expected greater than 0, got 0$"),
        ({"model": "m", "slots": "many"}, r"^parameter 'slots': expected a valid integer.*, got 'many'$"),
        ({"model": "m", "gate": {"shape": "round"}}, "^parameter 'gate.shape': expected 'ellipse' or 'box', "),
        ({"model": "m", "names": ["cat"]}, r"^parameter 'names': expected road users, got \('cat',\)$"),
        ({"model": "m", "half": True, "slots": 600}, "^expected at most 500 slots in half precision, got 600$"),
        ({"model": "m", "treshold": 1}, "^unknown parameter 'treshold'; did you mean 'threshold'?"),
        ({"model": "m", "xyz": 1}, "^unknown parameter 'xyz'; known are folder, gate.shape, gate.size, half"),
        ({"threshold": -1}, "^parameter 'model': .*; parameter 'threshold': expected greater than or equal"),
    ],
)
def test_refused_values_get_a_sentence_each(values, sentence):
    with pytest.raises(ConfigurationError, match=sentence):
        validated(Example, values)


@pytest.mark.parametrize(
    "model",
    [ReplayParameters, RecorderParameters, SpaceRecorderParameters, GCNetParameters, Time3DParameters, PkfParameters],
)
def test_the_defaults_of_a_node_are_among_the_values_that_it_takes(model: type[Parameters]):
    defaults = {name: "x" if field.is_required() else field.default for name, field in model.model_fields.items()}
    assert validated(model, defaults).model_dump().keys() == model.model_fields.keys()


def test_a_number_may_stand_for_text():
    assert validated(Example, {"model": 2024}).model == "2024"


def test_names_of_nested_models_are_dotted():
    assert parameter_names(Example)[-2:] == ["gate.size", "gate.shape"]


@pytest.fixture
def graph():
    with opened_graph() as graph:
        yield graph


def node_with(graph, **parameters):
    overrides = [Parameter(name.replace("__", "."), value=value) for name, value in parameters.items()]
    node = graph.add(Node("example", context=graph.context, parameter_overrides=overrides))
    declare_given(node)
    declare(node, Example)
    return node


def test_defaults_come_from_the_model(graph):
    node = node_with(graph, model="m.onnx")
    assert read(node, Example) == Example(model="m.onnx")
    assert node.get_parameter("names").value == ["car", "bus"]
    assert node.get_parameter("gate.size").value == 9.2


def test_given_values_reach_the_model(graph):
    node = node_with(graph, model="m", threshold=1, names=["van"], gate__shape="box", horizon=2.5, folder="a/b")
    expected = Example(
        model="m", threshold=1.0, names=("van",), gate=Gate(shape="box"), horizon=2.5, folder=Path("a/b")
    )
    assert read(node, Example) == expected


def test_a_parameter_without_default_must_be_given(graph):
    with pytest.raises(ConfigurationError, match="parameter 'model': expected a value, got none"):
        read(node_with(graph), Example)


def test_a_value_out_of_range_is_refused_on_reading_not_on_declaring(graph):
    node = node_with(graph, model="m", threshold=7.5)
    with pytest.raises(ConfigurationError, match=r"parameter 'threshold': .* got 7.5"):
        read(node, Example)


def test_descriptors_say_what_a_parameter_means(graph):
    node = node_with(graph, model="m")
    threshold, slots, size = (node.describe_parameter(n) for n in ("threshold", "slots", "gate.size"))
    assert threshold.description == "least score"
    (bounds,) = threshold.floating_point_range
    assert (bounds.from_value, bounds.to_value) == (0.0, 1.0)
    (whole,) = slots.integer_range
    assert (whole.from_value, whole.to_value) == (1, 999)
    assert size.floating_point_range[0].to_value == inf
    assert size.additional_constraints == "greater than 0"


def test_a_value_out_of_range_cannot_be_set_later(graph):
    node = node_with(graph, model="m")
    (result,) = node.set_parameters([Parameter("threshold", value=1.5)])
    assert not result.successful
    assert node.get_parameter("threshold").type_.value == ParameterType.PARAMETER_DOUBLE


def test_strangers_are_named(graph):
    node = node_with(graph, model="m", tresholt=0.3, use_sim_time=True)
    assert strangers(node, Example) == ["unknown parameter 'tresholt'; did you mean 'threshold'?"]


def test_an_empty_list_in_a_dump_is_the_default(graph):
    """As rcl reads `names: []`: without a type."""
    node = graph.add(
        Node("example", context=graph.context, parameter_overrides=[Parameter("names", Parameter.Type.NOT_SET)])
    )
    declare_given(node)
    declare(node, Example)
    assert node.get_parameter("names").value == ["car", "bus"]


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        (GCNetNode, {"precision": "f32", "batch_timeout": 1e-5}),
        (Time3DNode, {"fixed_frame": ""}),
        (PkfNode, {"noise.centre": 0.1}),
        (PkfNode, {"sensors": ["front", "image"], "image.kind": "boxes_2d", "cameras": "left right"}),
        (AutowareNode, {}),
        (RecorderNode, {"folder": "2024"}),
        (SpaceRecorderNode, {"rectified": True}),
        (ReplayNode, {"source": "drive:7", "rate": 0.0}),
    ],
)
def test_a_dump_of_a_nodes_parameters_is_loaded_again(
    graph: Graph, tmp_path: Path, kind: type[CamtrackNode[Any]], given: dict[str, Any]
) -> None:
    """A file as `ros2 param dump` writes it: every parameter of the node, under the node's full name."""
    nodes = [graph.add(kind(**graph.options(given)))]
    if kind is PkfNode:
        nodes[0]._declare_sensors()
    dumped = {name: parameter.value for name, parameter in nodes[0].get_parameters_by_prefix("").items()}
    file = tmp_path / "dump.yaml"
    full_name = nodes[0].get_fully_qualified_name()
    file.write_text(yaml.safe_dump({full_name: {"ros__parameters": nested_values(dumped)}}))
    loaded = ["--ros-args", "--params-file", str(file)]
    nodes.append(graph.add(kind(context=graph.context, cli_args=loaded)))
    if kind is PkfNode:
        nodes[1]._declare_sensors()
    first, again = (read(node, node._model).model_dump() for node in nodes)
    assert again == first and set(given) <= set(dumped)
    assert not strangers(nodes[1], nodes[1]._model)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("threshold", 1.5, "parameter 'threshold': expected less than or equal to 1, got 1.5"),
        ("gate.shape", "round", "parameter 'gate.shape': expected 'ellipse' or 'box', got 'round'"),
        ("names", ["cat"], "parameter 'names': expected road users, got ('cat',)"),
        ("threshold", 0.7, ""),
        ("slots", 600, ""),  # too many in half precision only: that is for configure to say
    ],
)
def test_a_wrong_value_is_refused_whatever_the_others_are(name, value, words):
    assert "; ".join(refusals(Example, [Parameter(name, value=value)])) == words
