"""Export: one ONNX graph a frame, with detection, tracking of 128 stored slots and refreshed features.

Everything a frame needs but the resize is in the graph: cast, network, peaks (Eq. 3), the best 128 of them, their
boxes, the boxes and confidences of the stored tracks, and the [Q, V] to store next. All shapes are fixed, but for the
number of cameras where that is any.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from camtrack_core.config import validated
from camtrack_core.errors import ModelError
from camtrack_core.networks.graph import EXAMPLES, write_graph
from gcnet_tracker.config import INPUTS, OUTPUTS, PEAKS, REFRESHED, SLOTS, NetworkConfig
from gcnet_tracker.correlation import gather
from gcnet_tracker.network import GCNet, to_xyxy


class FrameGraph(nn.Module):
    """The network as Algorithm 1 asks for it.

    Args:
        refresh: what is read at the centre of B_t,i: "query" as in training, "key" as the listing prints it.
        share: of it in the new Q_i, whose rest is Q_i as it was; 1 in the listing.
    """

    pixels: Tensor

    def __init__(self, network: GCNet, refresh: Literal["query", "key"], share: float = REFRESHED) -> None:
        super().__init__()
        self.network, self.refresh, self.share = network, refresh, share
        config = network.config
        self.rows, self.columns = config.map_size
        scale = torch.tensor([config.width, config.height] * 2).view(1, 4, 1)
        self.register_buffer("pixels", scale.float())

    def forward(self, image: Tensor, queries: Tensor, values: Tensor) -> tuple[Tensor, ...]:
        """A frame of each of B cameras.

        Args:
            image: (B, H, W, 3) uint8, BGR, padded to the network's size.
            queries, values: (B, c, 128) and (B, v + 2, 128) float32, stored Q_i and [V_i, place]; empty slots
                hold anything.

        Returns:
            As OUTPUTS names them: detections: boxes (B, 128, 4) in pixels of the input, best first, scores (B, 128),
            class_ids (B, 128) int32, features to store (B, c, 128) twice; tracks: boxes (B, 128, 4), confidences
            (B, 128), refreshed features (B, c, 128) twice. All floats are float32.
        """
        network = self.network
        features = network(image.float().permute(0, 3, 1, 2))

        confidence, classes = features.heatmap.sigmoid().max(1, keepdim=True)
        peaks = confidence * (confidence == functional.max_pool2d(confidence, 3, 1, 1))  # Eq. 3
        scores, cells = peaks.flatten(1).topk(min(PEAKS, self.rows * self.columns))
        new_queries, new_values = gather(features.queries, cells), gather(features.stored, cells)
        detected = network.ask(features.memory, new_queries, new_values)
        boxes = to_xyxy(detected.boxes) * self.pixels

        tracked = network.ask(features.memory, queries, values)
        track_boxes = tracked.boxes
        column = (track_boxes[:, 0] * self.columns).clamp(0.0, self.columns - 1.0).long()
        row = (track_boxes[:, 1] * self.rows).clamp(0.0, self.rows - 1.0).long()
        centres = row * self.columns + column
        seen = gather(features.queries if self.refresh == "query" else features.keys, centres)
        # Directions are what a cosine compares: what was seen once beside another object does not make a track his.
        refreshed = torch.lerp(functional.normalize(queries, dim=1), functional.normalize(seen, dim=1), self.share)
        outputs = (
            boxes.mT, scores, classes.flatten(1).gather(1, cells).to(torch.int32), new_queries, new_values,
            (to_xyxy(track_boxes) * self.pixels).mT, tracked.confidence.sigmoid(),
            refreshed, gather(features.stored, centres),
        )  # fmt: skip
        return tuple(x if x.dtype == torch.int32 else x.float() for x in outputs)


def example_inputs(network: GCNet, cameras: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    """Inputs of the right shapes: noise and empty slots."""
    config = network.config
    image = torch.randint(0, 256, (cameras, config.height, config.width, 3), dtype=torch.uint8)
    value_channels = config.channels if config.local == "value" else 0
    return image, torch.zeros(cameras, config.channels, SLOTS), torch.zeros(cameras, value_channels + 2, SLOTS)


def resized(network: GCNet, height: int, width: int) -> GCNet:
    """The same network for inputs of another size, pixels, in evaluation mode: objects keep their sizes in pixels.

    Boxes are shares of the input, so that the last layer changes with it. Raises ModelError for another correlation
    than attention, whose weights belong to cells, and ConfigurationError for a size that the strides do not divide.
    """
    old = network.config
    if (height, width) == (old.height, old.width):
        return network
    if old.correlation != "attention":
        raise ModelError(f"expected a network with attention for inputs of another size, got {old.correlation}")
    changed = GCNet(validated(NetworkConfig, old.model_dump() | {"height": height, "width": width}))
    changed.load_state_dict(network.state_dict())
    share = torch.tensor([old.width / width, old.height / height])
    layer, bias = changed.to_box, changed.to_box.bias
    assert bias is not None
    with torch.no_grad():
        layer.weight[:2] *= share[:, None, None]  # offsets of the centre
        bias[:2] *= share
        bias[2:] += share.log()  # logarithms of the sides
    return changed.eval()


def export(
    network: GCNet,
    path: Path,
    precision: Literal["float32", "float16"] = "float32",
    refresh: Literal["query", "key"] = "query",
    cameras: Literal[0, 1] = 1,
    share: float = REFRESHED,
) -> None:
    """Writes the graph of a network in evaluation mode, for a frame of one camera at a time or, 0, of any number.

    float16 is of the convolutions alone (`half.to_half`).
    """
    config, inputs = network.config, example_inputs(network, cameras or EXAMPLES)
    metadata = {
        "camtrack_model": "gcnet",
        "class_names": json.dumps(config.class_names),
        "height": str(config.height),
        "width": str(config.width),
        "backbone": config.backbone,
    }
    write_graph(FrameGraph(network, refresh, share), path, inputs, (INPUTS, OUTPUTS), cameras == 0, precision, metadata)
