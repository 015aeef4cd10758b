"""The loss of one batch of clips (paper Eq. 8): every frame through the detector once, then each against its past."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from camtrack_core.networks.heatmap import focal_loss
from time3d_tracker import losses
from time3d_tracker.config import TrainingConfig
from time3d_tracker.detector import Objects
from time3d_tracker.flow import Memory, association
from time3d_tracker.network import Slots, Time3D, training_slots

# Places decide the scores: at a depth of 30 m a pixel of a car's lower edge is a metre.
PART_WEIGHTS = {"box2d": 2.0, "keypoints": 4.0, "dimensions": 1.0, "orientation": 1.0, "position": 8.0, "depth": 3.0,
                "deviation": 0.3, "facing": 3.0}  # fmt: skip


class TrainingStep(nn.Module):
    """Eq. 8 as one module, so that distributed training wraps one forward."""

    def __init__(self, network: Time3D, training: TrainingConfig) -> None:
        super().__init__()
        self.network, self.training_config = network, training

    def train(self, mode: bool = True) -> TrainingStep:
        """Batch normalisation keeps its statistics where the configuration says so."""
        super().train(mode)
        if self.training_config.statistics == "kept":
            for module in self.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Loss parts of a batch as `loader.ClipSamples` makes it: clips of T frames, (B, T, ...)."""
        network, frames = self.network, batch["image"].shape[1]
        flat = {name: value.flatten(0, 1) for name, value in batch.items() if name not in ("motion", "time")}
        images = flat["image"].to(memory_format=torch.channels_last).float()
        features, heatmap = network.detector(images)
        slots = training_slots(
            heatmap.detach(), self._shake(flat["cells"]), flat["class_ids"], flat["ids"] >= 0, network.config.slots
        )
        objects, raw = network.detector.objects(
            features, slots.cells, slots.peak, flat["projection"], flat["camera_height"],
            flat["pitch_deviation"],
        )  # fmt: skip
        truth = pick(flat, slots.owner)
        labelled = slots.owner >= 0
        placed = labelled & truth["in_space"]  # a label in the image alone teaches what the image shows
        count = (flat["ids"] >= 0).sum().clamp(min=1)

        corner = torch.stack([slots.cells % heatmap.shape[-1], slots.cells // heatmap.shape[-1]], -1)
        parts = {
            "heatmap": focal_loss(heatmap.float(), flat["heatmap"], flat["counted"][:, None]) / count,
            "box2d": losses.box2d_loss(raw, truth, corner, network.config.stride, labelled),
            "keypoints": losses.keypoint_loss(objects, truth, placed),
            "dimensions": losses.dimension_loss(objects, truth, placed),
            "orientation": losses.orientation_loss(raw, truth, placed),
            "facing": losses.facing_loss(raw, truth, labelled & truth["heading_alone"]),
            "position": losses.position_loss(objects, truth, placed),
            "depth": losses.depth_loss(objects, truth, placed),
            "deviation": losses.deviation_loss(objects, truth, placed),
        }  # Eq. 5
        ids = truth["ids"].unflatten(0, (-1, frames))
        parts["reid"] = losses.reid_loss(objects.reid.unflatten(0, (-1, frames)), ids)
        parts |= self._flow(objects, slots, truth, flat, batch)
        weights = self._weights()
        loss = sum((weights.get(name, 1.0) * part for name, part in parts.items()), heatmap.new_zeros(()))  # Eq. 8
        return parts | {"loss": loss}

    def _flow(
        self, objects: Objects, slots: Slots, truth: dict[str, Tensor], flat: dict[str, Tensor],
        batch: dict[str, Tensor],
    ) -> dict[str, Tensor]:  # fmt: skip
        """The parts that need more than one frame."""
        network, frames = self.network, batch["image"].shape[1]
        if self.training_config.coupling == "separate":
            objects = Objects(*(x.detach() for x in objects))
        spatial = network.describe(objects, slots.valid, flat["projection"])
        memory = remember(spatial, objects.translation, slots.valid, batch["time"], batch["motion"])
        flow = network.flow(spatial, objects.translation, memory)

        labelled = slots.owner >= 0
        now, past = slots.valid[:, None].expand_as(memory.valid), memory.valid
        past_ids = past_of(truth["ids"].unflatten(0, (-1, frames)))
        now_ids = truth["ids"][:, None].expand_as(past_ids)
        exists = (torch.arange(frames - 1) < torch.arange(frames)[:, None]).to(now.device)
        exists = exists.repeat(len(batch["time"]), 1)
        associated = association(flow.affinity, now, past)
        has_past = labelled & (torch.arange(len(labelled), device=now.device) % frames > 0)[:, None]
        moves = has_past & truth["motion_known"] & truth["in_space"]
        placed = truth | {"ids": torch.where(truth["in_space"], truth["ids"], torch.full_like(truth["ids"], -1))}
        corners = losses.corners(objects.translation, objects.size, objects.sin, objects.cos)
        true_corners = losses.corners(truth["translation"], truth["size"], truth["yaw"].sin(), truth["yaw"].cos())
        return {
            "tracking": losses.tracking_loss(associated, now_ids, past_ids, exists),  # Eq. 6
            "consistency": consistency(corners, true_corners, placed, flat, frames),  # Eq. 7
            "velocity": losses.velocity_loss(flow.velocity, truth, moves),
            "attributes": losses.attribute_loss(flow.attributes, truth, moves),
        }  # fmt: skip

    def _shake(self, cells: Tensor) -> Tensor:
        """A peak is not always the very cell of the centre: every third one moves to a neighbour."""
        height, width = self.network.config.map_size
        step = torch.randint(-1, 2, cells.shape, device=cells.device)
        step = step * (torch.rand(cells.shape[:-1], device=cells.device) < 1 / 3)[..., None]
        return (cells + step).clamp(min=0).minimum(cells.new_tensor([width - 1, height - 1]))

    def _weights(self) -> dict[str, float]:
        config = self.training_config
        motion = dict.fromkeys(("velocity", "attributes"), config.motion_weight)
        return PART_WEIGHTS | motion | {
            "reid": config.reid_weight,
            "tracking": config.tracking_weight,
            "consistency": config.consistency_weight,
        }  # fmt: skip


PICKED = ("ids", "class_ids", "box2d", "in_space", "heading_alone", "keypoints", "keypoints_asked", "size", "yaw",
          "translation", "motion_known", "velocity", "attributes")  # fmt: skip


def pick(flat: dict[str, Tensor], owner: Tensor) -> dict[str, Tensor]:
    """The labels (B, N, ...) that the slots (B, K) were made for; identity -1 for the others."""
    row = torch.arange(len(owner), device=owner.device)[:, None]
    truth = {name: flat[name][row, owner.clamp(min=0)] for name in PICKED}
    return truth | {"ids": torch.where(owner >= 0, truth["ids"], torch.full_like(owner, -1))}


def consistency(
    corners: Tensor, true_corners: Tensor, truth: dict[str, Tensor], flat: dict[str, Tensor], frames: int
) -> Tensor:
    """Eq. 7 of corners (B * T, K, 8, 3) that are given in each frame's own level frame.

    Args:
        truth: identities (B * T, K) and translation (B * T, K, 3) of the true boxes.
        flat: pose_rotation (B * T, 3, 3) and pose_translation (B * T, 3) of the level frames in the fixed frame, which
            the T frames of a clip share; reflections where the view is mirrored.
    """

    def into_world(points: Tensor) -> Tensor:
        world = torch.einsum("bij,bkcj->bkci", flat["pose_rotation"], points)
        return (world + flat["pose_translation"][:, None, None]).unflatten(0, (-1, frames))

    distance = truth["translation"].norm(dim=-1).unflatten(0, (-1, frames))
    ids = truth["ids"].unflatten(0, (-1, frames))
    return losses.consistency_loss(into_world(corners), into_world(true_corners), distance, ids)


def past_of(values: Tensor) -> Tensor:
    """(B, T, ...) of the frames of clips -> (B * T, T - 1, ...) of the frames before each; later ones stand in for
    those that a frame has not, and must not count."""
    clips, frames = values.shape[:2]
    past = values[:, None, : frames - 1].expand(clips, frames, *([-1] * (values.ndim - 1)))
    return past.flatten(0, 1)


def remember(spatial: Tensor, centres: Tensor, valid: Tensor, time: Tensor, motion: Tensor) -> Memory:
    """Memory of each frame of clips: the frames before it.

    Args:
        spatial: (B * T, K, d).
        centres: (B * T, K, 3), each frame's in its own level frame.
        valid: (B * T, K).
        time: (B, T) seconds.
        motion: (B, T, T, 5), [b, t, p] from frame p to t.
    """
    frames = time.shape[1]
    before = torch.arange(frames - 1, device=time.device) < torch.arange(frames, device=time.device)[:, None]
    before = before.repeat(len(time), 1)[..., None]
    elapsed = (time[:, :, None] - time[:, None, :-1]).flatten(0, 1).clamp(min=0)
    return Memory(
        past_of(spatial.unflatten(0, (-1, frames))),
        past_of(centres.unflatten(0, (-1, frames))),
        past_of(valid.unflatten(0, (-1, frames))) & before,
        elapsed,
        motion[:, :, :-1].flatten(0, 1),
    )
