"""Training of Time3D: slots, memory, falling losses, resuming, and what may not reach the detector."""

from pathlib import Path

import numpy as np
import pytest
import torch
from test_time3d_targets import Street

from camtrack_core.errors import ConfigurationError, ModelError
from time3d_tracker import clips
from time3d_tracker.cli import read_config
from time3d_tracker.config import NetworkConfig, TrainingConfig
from time3d_tracker.loader import ClipSamples, batches
from time3d_tracker.network import Time3D, training_slots
from time3d_tracker.training import load_network, train
from time3d_tracker.training_step import TrainingStep, remember

CONFIG = NetworkConfig(backbone="yolox_nano", stride=8, height=96, width=160, channels=16, head_channels=16, slots=12,
                       reid_channels=8, embedding=16, attention_heads=2)  # fmt: skip


@pytest.fixture(scope="module")
def clip() -> clips.Clip:
    torch.set_num_threads(1)
    return clips.from_sequence(Street(), CONFIG.class_names)


def batch_of(clip: clips.Clip, frames: int) -> dict[str, torch.Tensor]:
    samples = ClipSamples([clip], np.ones(1), CONFIG, TrainingConfig(clip_frames=frames, max_gap=2))
    return next(batches(samples, 2, 0, 0, 1, 0))


def test_every_labelled_object_gets_a_slot_and_no_peak_beside_it_does() -> None:
    heat = torch.full((1, 2, 6, 8), -6.0)
    heat[0, 1, 2, 3], heat[0, 0, 5, 7], heat[0, 1, 0, 7] = 4.0, 3.0, -1.0
    cells, labelled = torch.tensor([[[3, 3], [0, 0], [5, 5]]]), torch.tensor([[True, True, False]])
    slots = training_slots(heat, cells, torch.tensor([[0, 1, 0]]), labelled, 5)
    rows = dict(zip(slots.owner[0].tolist(), slots.cells[0].tolist(), strict=True))
    assert rows[0] == 3 * 8 + 3 and rows[1] == 0
    assert slots.owner[0].tolist()[:2] in ([0, 1], [1, 0])
    assert slots.cells[0, 2:4].tolist() == [5 * 8 + 7, 7]  # the best peaks away from labels, best first
    assert slots.valid[0].tolist() == [True] * 4 + [False]
    torch.testing.assert_close(slots.peak.scores[0, 2], torch.tensor(3.0).sigmoid())


def test_memory_of_a_frame_is_the_frames_before_it() -> None:
    spatial = torch.arange(6.0)[:, None, None].expand(6, 2, 4)  # two clips of three frames
    time = torch.tensor([[0.0, 0.1, 0.4], [0.0, 0.2, 0.3]])
    motion = torch.arange(18.0).view(2, 3, 3, 1).expand(2, 3, 3, 5)
    memory = remember(spatial, torch.ones(6, 2, dtype=torch.bool), time, motion)
    assert memory.valid[:, :, 0].tolist() == [[False, False], [True, False], [True, True]] * 2
    assert memory.features[5, :, 0, 0].tolist() == [3, 4]
    torch.testing.assert_close(memory.elapsed[2], torch.tensor([0.4, 0.3]))
    assert memory.motion[4, 0, 0] == motion[1, 1, 0, 0]


@pytest.mark.parametrize("coupling", ["end_to_end", "separate"])
def test_gradients_of_the_flow_reach_the_detector_only_end_to_end(clip: clips.Clip, coupling: str) -> None:
    torch.manual_seed(0)
    network = Time3D(CONFIG)
    parts = TrainingStep(network, TrainingConfig(coupling=coupling))(batch_of(clip, 3))  # type: ignore[arg-type]
    assert all(torch.isfinite(x) for x in parts.values())
    parts["tracking"].backward()
    reached = network.detector.heads.first.weight.grad is not None
    assert reached == (coupling == "end_to_end")
    assert network.temporal.nobody_past.grad is not None


def test_motion_that_is_not_known_is_not_asked_for(clip: clips.Clip) -> None:
    torch.manual_seed(0)
    step, batch = TrainingStep(Time3D(CONFIG), TrainingConfig()).eval(), batch_of(clip, 2)
    torch.manual_seed(1)
    known = step(batch)
    torch.manual_seed(1)
    unknown = step(batch | {"motion_known": torch.zeros_like(batch["motion_known"])})
    assert known["velocity"] > 0 and known["attributes"] > 0
    assert unknown["velocity"] == 0 and unknown["attributes"] == 0
    torch.testing.assert_close(unknown["refined"], known["refined"])


def test_losses_fall_and_the_checkpoint_holds_the_network(clip: clips.Clip, tmp_path: Path) -> None:
    training = TrainingConfig(batch_size=2, steps=30, learning_rate=3e-3, workers=0, checkpoint_every=8, max_gap=2)
    whole = train(tmp_path / "whole", [clip], np.ones(1), CONFIG, training, None)
    rows = np.genfromtxt(tmp_path / "whole" / "losses.csv", delimiter=",", names=True)
    learnt = rows["box2d"] + rows["dimensions"] + rows["orientation"]  # what blank pictures can teach
    assert learnt[-8:].mean() < 0.7 * learnt[:4].mean()
    assert np.isfinite(rows["loss"]).all()
    assert (tmp_path / "whole" / "curves.png").stat().st_size > 1000

    again = load_network(tmp_path / "whole" / "checkpoint.pt")
    for a, b in zip(whole.state_dict().values(), again.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b)
    other = CONFIG.model_copy(update={"embedding": 32})
    with pytest.raises(ModelError, match="expected the network"):
        train(tmp_path / "whole", [clip], np.ones(1), other, training, None)


def test_a_run_goes_on_where_it_stopped(clip: clips.Clip, tmp_path: Path) -> None:
    short = TrainingConfig(batch_size=1, steps=2, workers=0, max_gap=2)
    train(tmp_path, [clip], np.ones(1), CONFIG, short, None)
    train(tmp_path, [clip], np.ones(1), CONFIG, short.model_copy(update={"steps": 4}), None)
    rows = np.genfromtxt(tmp_path / "losses.csv", delimiter=",", names=True)
    assert rows["step"].tolist() == [1, 2, 3, 4]


def test_another_checkpoint_is_refused(tmp_path: Path) -> None:
    torch.save({"network": {}}, tmp_path / "x.pt")
    with pytest.raises(ModelError, match="expected a Time3D checkpoint"):
        load_network(tmp_path / "x.pt")


def test_the_demo_configuration_is_valid_and_a_wrong_one_is_named(tmp_path: Path) -> None:
    demo = read_config(Path(__file__).parents[1] / "config" / "time3d_demo.yaml")
    assert demo.network.map_size == (40, 72)
    (tmp_path / "a.yaml").write_text("network: {strides: 8}")
    with pytest.raises(ConfigurationError, match="strides"):
        read_config(tmp_path / "a.yaml")
    (tmp_path / "a.yaml").write_text("network: {attention_heads: 7}")
    with pytest.raises(ConfigurationError, match="divisible by 7"):
        read_config(tmp_path / "a.yaml")
