"""Export: one ONNX graph a frame, from the image and the remembered frames to boxes, affinities and velocities.

Everything a frame needs but the resize is in the graph: cast, network, the best K peaks, their boxes in space,
embeddings, spatial features to remember, and what the remembered ones say about them. Shapes are fixed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from camtrack_core.networks.graph import EXAMPLES, write_graph
from time3d_tracker.config import ATTRIBUTES, INPUTS, MEMORY, OUTPUTS
from time3d_tracker.detector import find_peaks
from time3d_tracker.flow import Memory, association
from time3d_tracker.network import LEAST_SCORE, Time3D, reconfigured


class FrameGraph(nn.Module):
    """The network as the tracker asks for it."""

    def __init__(self, network: Time3D) -> None:
        super().__init__()
        self.network = network

    def forward(
        self, image: Tensor, projection: Tensor, height: Tensor, pitch_deviation: Tensor, past_features: Tensor,
        past_centres: Tensor, past_valid: Tensor, elapsed: Tensor, motion: Tensor,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        """One frame of each camera.

        Args:
            image: (B, H, W, 3) uint8, BGR, of B cameras, padded to the network's size.
            projection: (B, 3, 3) float32, pixels of the input from level coordinates (`level.projection`).
            height: (B,) float32, of the camera over the ground, metres; 0 where unknown.
            pitch_deviation: (B,) float32, standard deviation of the camera's pitch over the ground, radians.
            past_features: (B, 5, K, d) float32 of remembered frames; empty slots hold anything finite.
            past_centres: (B, 5, K, 3) float32, `centres` of remembered frames.
            past_valid: (B, 5, K) float32, 1 for slots that hold an object.
            elapsed: (B, 5) float32, seconds since each remembered frame.
            motion: (B, 5, 5) float32, the camera's motion since each (`level.motion`).

        Returns:
            As OUTPUTS names them, float32 but for class_ids (int32), each for B cameras: scores (K,) best first,
            boxes2d (K, 4) in pixels of the input; centres (K, 3), sizes (K, 3) (length, width, height) and yaws
            (K, 2) (sine, cosine) in the level frame; usable (K,) 0 or 1; deviations (K,) of the places along the
            line of sight, shares of the distance; reid (K, c); features (K, d) to remember; association
            (5, K + 1, K + 1) probabilities, the last row and column nobody; velocities (K, 3); attributes (K, 3)
            probabilities.
        """
        network = self.network
        features, heatmap = network.detector(image.float().permute(0, 3, 1, 2))
        cells, peak = find_peaks(heatmap, network.config.slots)
        objects, _ = network.detector.objects(features, cells, peak, projection, height, pitch_deviation)
        valid = peak.scores > LEAST_SCORE
        spatial = network.describe(objects, valid, projection)
        remembered = past_valid > 0.5
        memory = Memory(past_features, past_centres, remembered, elapsed, motion)
        flow = network.flow(spatial, objects.translation, memory)
        associated = association(flow.affinity, valid[:, None].expand(-1, MEMORY, -1), remembered).exp()
        return (
            objects.scores, objects.class_ids.to(torch.int32), objects.box2d, objects.translation, objects.size,
            torch.stack([objects.sin, objects.cos], -1), objects.usable.float(), objects.deviation, objects.reid,
            spatial, associated, flow.velocity, flow.attributes.softmax(-1),
        )  # fmt: skip


def example_inputs(network: Time3D, cameras: int = 1) -> tuple[Tensor, ...]:
    """Inputs of the right shapes: noise, level cameras and empty memory."""
    config = network.config
    image = torch.randint(0, 256, (cameras, config.height, config.width, 3), dtype=torch.uint8)
    focal, x, y = 0.8 * config.width, config.width / 2, config.height / 2
    projection = torch.tensor([[focal, 0, x], [0, focal, y], [0, 0, 1]]).repeat(cameras, 1, 1)
    still = torch.tensor([0.0, 0, 0, 0, 1]).repeat(cameras, MEMORY, 1)
    return (
        image, projection, torch.full((cameras,), 1.5), torch.full((cameras,), 0.005),
        torch.zeros(cameras, MEMORY, config.slots, config.embedding), torch.zeros(cameras, MEMORY, config.slots, 3),
        torch.zeros(cameras, MEMORY, config.slots), torch.zeros(cameras, MEMORY), still,
    )  # fmt: skip


def resized(network: Time3D, height: int, width: int) -> Time3D:
    """The same weights for an input of another size: none of them belongs to a place in the image.

    Raises ConfigurationError for a size that the strides do not divide.
    """
    return reconfigured(network, height=height, width=width)


def export(network: Time3D, path: Path, cameras: int = 1, precision: Literal["float32", "float16"] = "float32") -> None:
    """Writes the graph of a network in evaluation mode, for frames of this many cameras at a time; 0 for any number.

    float16 is of the convolutions alone (`half.to_half`).
    """
    config, inputs = network.config, example_inputs(network, cameras or EXAMPLES)
    metadata = {
        "camtrack_model": "time3d",
        "class_names": json.dumps(config.class_names),
        "attributes": json.dumps(ATTRIBUTES),
        "height": str(config.height),
        "width": str(config.width),
        "backbone": config.backbone,
    }
    write_graph(FrameGraph(network), path, inputs, (INPUTS, OUTPUTS), cameras == 0, precision, metadata)
