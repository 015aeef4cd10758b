"""Training of Time3D: slots, memory, falling losses, resuming, and what may not reach the detector."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from network_helpers import Street
from training_helpers import check_guards

from camtrack_core.datasets.frames import Labels
from camtrack_core.errors import ConfigurationError, ModelError
from camtrack_core.evaluation.nuscenes.submission import TRACKED
from camtrack_core.training import augmentation
from camtrack_core.training.run import Run
from camtrack_core.training.shards import batches
from time3d_tracker import clips, level
from time3d_tracker.cli import read_config
from time3d_tracker.config import NetworkConfig, TrainingConfig
from time3d_tracker.loader import ClipSamples, class_balance
from time3d_tracker.network import Time3D, training_slots
from time3d_tracker.training import PARTS, load_network, train
from time3d_tracker.training_step import PART_WEIGHTS, TrainingStep, consistency, remember

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
    memory = remember(spatial, 10 * spatial[..., :3], torch.ones(6, 2, dtype=torch.bool), time, motion)
    assert memory.valid[:, :, 0].tolist() == [[False, False], [True, False], [True, True]] * 2
    assert memory.features[5, :, 0, 0].tolist() == [3, 4]
    assert memory.centres[5, :, 0, 2].tolist() == [30, 40]
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
    torch.testing.assert_close(unknown["position"], known["position"])


SHOWN_BY_THE_IMAGE = {"heatmap", "box2d", "reid", "tracking"}


class Flat(Street):
    """The same street, labelled in the image alone by somebody who knows no poses."""

    def __iter__(self):  # type: ignore[no-untyped-def]
        return (replace(frame, boxes3d=None, camera_pose=None) for frame in super().__iter__())


def test_labels_in_the_image_alone_teach_what_the_image_shows(tmp_path: Path) -> None:
    flat = clips.from_sequence(Flat(), CONFIG.class_names)
    clips.save(flat, tmp_path / "flat.npz")
    batch = batch_of(clips.load(tmp_path / "flat.npz"), 2)
    assert (batch["ids"] >= 0).any() and not batch["in_space"].any()
    assert all(torch.isfinite(value).all() for value in batch.values() if value.is_floating_point())
    torch.manual_seed(0)
    step = TrainingStep(Time3D(CONFIG), TrainingConfig())
    parts = step(batch)
    assert {name for name in PARTS[1:] if parts[name] > 0} == SHOWN_BY_THE_IMAGE
    parts["loss"].backward()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in step.parameters())


def test_what_each_image_knows_counts_in_a_mixed_batch(clip: clips.Clip) -> None:
    """Objects in space without their places in one image cost there what the image shows, elsewhere all."""
    torch.manual_seed(0)
    step, batch = TrainingStep(Time3D(CONFIG), TrainingConfig()).eval(), batch_of(clip, 2)
    half = batch["in_space"].clone()
    half[0] = False
    moved = batch["translation"].clone()
    moved[0] += 7.0
    losses = []
    for translation in (batch["translation"], moved):
        torch.manual_seed(1)
        losses.append(step(batch | {"in_space": half, "translation": translation}))
    for name in PARTS:
        torch.testing.assert_close(losses[0][name], losses[1][name])
    assert losses[0]["position"] > 0


def test_the_loss_is_the_weighted_sum_of_its_parts_equation_8(clip: clips.Clip) -> None:
    torch.manual_seed(0)
    weights = {"reid_weight": 0.3, "tracking_weight": 2.5, "consistency_weight": 0.7, "motion_weight": 1.7}
    batch = batch_of(clip, 3)
    batch["in_space"][0] = False  # of the first clip only headings are known
    batch["heading_alone"] = ~batch["in_space"] & (batch["ids"] >= 0)
    parts = TrainingStep(Time3D(CONFIG), TrainingConfig(**weights))(batch)
    assert set(parts) == set(PARTS)
    own = {"heatmap": 1.0, "facing": 1.0, "reid": 0.3, "tracking": 2.5, "consistency": 0.7, "velocity": 1.7,
           "attributes": 1.7}  # fmt: skip
    total = 0.0
    for name in PARTS[1:]:
        assert parts[name] > 0, name
        total += (own | PART_WEIGHTS)[name] * parts[name].item()
    assert parts["loss"].item() == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize("flip", [False, True])
def test_consistency_compares_ways_in_the_world_equation_7(clip: clips.Clip, flip: bool) -> None:
    """The camera moves, and is mirrored: true boxes cost nothing, those that move along with it cost the difference."""
    samples = ClipSamples([clip], np.ones(1), CONFIG, TrainingConfig(max_gap=4))

    def fits(sample: dict[str, np.ndarray]) -> bool:
        mirrored = all(np.linalg.det(rotation) < 0 for rotation in sample["pose_rotation"])
        return mirrored == flip and all({4, 7} <= set(ids) for ids in sample["ids"])

    sample = next(sample for sample in map(samples.__getitem__, range(500)) if fits(sample))
    flat = {name: torch.from_numpy(value) for name, value in sample.items()}
    corners = np.stack([level.corners(*(sample[n][t].astype(float) for n in ("translation", "size", "yaw")))
                        for t in range(2)])  # fmt: skip
    true = torch.from_numpy(corners).float()
    assert consistency(true, true, flat, flat, 2).item() == pytest.approx(0, abs=1e-4)

    along = true.clone()  # the second frame's, where they were in the first: they seem to move as the camera does
    camera = float(np.linalg.norm(sample["pose_translation"][1] - sample["pose_translation"][0]))
    expected = []
    known = sample["ids"][0].tolist()
    for row, who in enumerate(sample["ids"][1].tolist()):
        if who >= 0 and who in known:
            before = known.index(who)
            along[1, row] = true[0, before]
            place = [
                sample["pose_rotation"][t] @ sample["translation"][t, r] + sample["pose_translation"][t]
                for t, r in ((0, before), (1, row))
            ]
            error = abs(camera - np.linalg.norm(place[1] - place[0]))
            expected.append(np.log1p(error / np.linalg.norm(sample["translation"][1, row])))
    assert camera > 0.9 and max(expected) > 0.01
    assert consistency(along, true, flat, flat, 2).item() == pytest.approx(np.mean(expected), rel=1e-3)


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
    with open(tmp_path / "losses.csv", "a") as log:  # a step that no checkpoint holds
        log.write(",".join(["3", *["nan"] * len(PARTS)]) + "\r\n")
    train(tmp_path, [clip], np.ones(1), CONFIG, short.model_copy(update={"steps": 4}), None)
    assert load_network(tmp_path / "weights.pt").config == CONFIG
    rows = np.genfromtxt(tmp_path / "losses.csv", delimiter=",", names=True)
    assert rows["step"].tolist() == [1, 2, 3, 4] and np.isfinite(rows["loss"]).all()


@pytest.mark.parametrize(("backbone", "still"), [("resnet18", "early"), ("yolox_nano", "all")])
def test_what_is_frozen_stays_and_what_is_not_finite_leaves_no_trace(
    clip: clips.Clip, tmp_path: Path, backbone: str, still: str
) -> None:
    network = NetworkConfig(**(CONFIG.model_dump() | {"backbone": backbone}))
    model, training = Time3D(network), TrainingConfig(max_gap=2, frozen=still, checkpoint_every=1)
    samples, own = ClipSamples([clip], np.ones(1), network, training), model.detector.features.backbone
    going = Run(tmp_path, model, own, network, training, 3, PARTS)
    check_guards(going, TrainingStep(model, training), batches(samples, 2, 0, 0, 1, 0), own)


def test_another_checkpoint_is_refused(tmp_path: Path) -> None:
    torch.save({"network": {}}, tmp_path / "x.pt")
    with pytest.raises(ModelError, match="expected a checkpoint, got NoneType"):
        load_network(tmp_path / "x.pt")


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"\x80\x02broken", b"PK\x03\x04 not really"])
def test_a_broken_checkpoint_is_a_sentence(clip: clips.Clip, tmp_path: Path, content: bytes) -> None:
    broken = tmp_path / "run" / "checkpoint.pt"
    broken.parent.mkdir()
    broken.write_bytes(content)
    training = TrainingConfig(batch_size=1, steps=1, workers=0, max_gap=2)
    for use in (
        lambda: load_network(broken),
        lambda: train(tmp_path / "run", [clip], np.ones(1), CONFIG, training, None),
        lambda: train(tmp_path / "new", [clip], np.ones(1), CONFIG, training, broken),
    ):
        with pytest.raises(ModelError, match=r"checkpoint\.pt: expected a checkpoint"):
            use()


def test_fine_tuning_starts_from_all_weights(clip: clips.Clip, tmp_path: Path) -> None:
    still = TrainingConfig(batch_size=1, steps=1, learning_rate=1e-9, workers=0, max_gap=2)
    first = train(tmp_path / "first", [clip], np.ones(1), CONFIG, still.model_copy(update={"seed": 5}), None)
    start = tmp_path / "first" / "checkpoint.pt"
    larger = CONFIG.model_copy(update={"height": 128, "width": 192})  # has no part in the weights
    tuned = train(tmp_path / "second", [clip], np.ones(1), larger, still, start)
    for (name, a), b in zip(first.named_parameters(), tuned.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6, msg=name)
    torch.manual_seed(still.seed)  # what it would have started from without
    assert not torch.allclose(Time3D(larger).temporal.nobody_now, first.temporal.nobody_now, atol=1e-3)

    for update, words in (({"channels": 24}, "the same layers"), ({"class_names": tuple("abcde")}, "the classes a")):
        with pytest.raises(ModelError, match=words):
            train(tmp_path / "other", [clip], np.ones(1), CONFIG.model_copy(update=update), still, start)
    torch.save([1], tmp_path / "list.pt")
    with pytest.raises(ModelError, match="expected a checkpoint"):
        train(tmp_path / "other", [clip], np.ones(1), CONFIG, still, tmp_path / "list.pt")


def test_clips_of_three_frames_in_bfloat16(clip: clips.Clip, tmp_path: Path) -> None:
    training = TrainingConfig(batch_size=1, steps=3, clip_frames=3, precision="bfloat16", workers=0, max_gap=2)
    model = train(tmp_path, [clip], np.ones(1), CONFIG, training, None)
    rows = np.genfromtxt(tmp_path / "losses.csv", delimiter=",", names=True)
    assert all(np.isfinite(rows[name]).all() for name in rows.dtype.names)
    assert all(p.dtype == torch.float32 and torch.isfinite(p).all() for p in model.parameters())


@pytest.mark.slow
def test_two_processes_train_one_model(clip: clips.Clip, tmp_path: Path) -> None:
    """torchrun with two processes: both end with the same weights, and the run has one checkpoint."""
    clips.save(clip, tmp_path / "street.npz")
    settings = TrainingConfig(batch_size=1, steps=2, workers=0, max_gap=2)
    script = tmp_path / "two.py"
    script.write_text(f"""
import numpy as np, os, torch
from pathlib import Path
from camtrack_core.evaluation.nuscenes.submission import TRACKED
from time3d_tracker import clips
from time3d_tracker.config import NetworkConfig, TrainingConfig
from time3d_tracker.training import train
torch.set_num_threads(1)
network = NetworkConfig(**{CONFIG.model_dump()!r})
settings = TrainingConfig(**{settings.model_dump()!r})
folder = Path({str(tmp_path)!r})
model = train(folder / "run", [clips.load(folder / "street.npz")], np.ones(1), network, settings, None)
total = sum(p.double().abs().sum().item() for p in model.parameters())
Path(folder, f"rank{{os.environ['RANK']}}").write_text(repr(total))
""")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "rank0").read_text() == (tmp_path / "rank1").read_text()
    assert (tmp_path / "run" / "checkpoint.pt").exists()


def test_clips_with_rare_classes_weigh_more(clip: clips.Clip) -> None:
    """Against the formula in loops: the mean over a clip's labels of 1 / sqrt(share of the class)."""

    def only(name: str, count: int) -> clips.Clip:
        ids = np.full(count, CONFIG.class_names.index(name) if name else -1)
        known = Labels(np.arange(count), np.zeros((count, 4)), ids, np.ones(count))
        return replace(clip, labels=[known])

    found = class_balance([only("car", 6), only("bus", 2), only("", 3)], len(CONFIG.class_names))
    np.testing.assert_allclose(found, [(6 / 8) ** -0.5, (2 / 8) ** -0.5, 1.0])


def test_views_are_made_around_every_class_alike() -> None:
    """Nine cars and one bus are shown as often; the hidden bus, and objects of no class, never."""
    corners = np.column_stack([10.0 * np.arange(12), np.zeros(12)])
    ids = np.array([0] * 9 + [2, 2, -1])
    visible = np.array([1.0] * 10 + [0.1, 1.0])
    labels = Labels(np.arange(12), np.hstack([corners, corners + 4]), ids, visible)
    rng = np.random.default_rng(0)
    shown = np.array([augmentation.choose_shown(rng, labels) for _ in range(2000)])
    assert (shown[:, 1] == 2).all()
    counts = np.bincount(((shown[:, 0] - 2) / 10).astype(int), minlength=12)
    assert counts[9] / 2000 == pytest.approx(0.5, abs=0.05) and counts[10:].tolist() == [0, 0]
    np.testing.assert_allclose(counts[:9] / 2000, 0.5 / 9, atol=0.03)
    assert augmentation.choose_shown(rng, labels[labels.class_ids < 0]) is None


def test_nothing_that_is_judged_on_is_trained_on() -> None:
    """Of PandaSet the training cameras alone, at 30 % at most; no recording of another data set; the demo's network."""
    config = Path(__file__).parents[2] / "config"
    street = read_config(config / "time3d_street.yaml")
    assert street.network == read_config(config / "time3d_demo.yaml").network
    named = [recording.source for recording in street.recordings]
    assert {name.partition("/")[0].partition("?")[0].partition(":")[0] for name in named} == {
        "drive", "pandaset", "real2d", "videos"
    }  # fmt: skip
    assert "pandaset?camera=front_camera&frames=0-49" in named
    assert not [name for name in named if "back_camera" in name or name.endswith("camera=front_camera")]
    seeds = [range(*map(int, name[6:].partition("?")[0].split("-"))) for name in named if name.startswith("drive:")]
    assert not set().union(*seeds) & set(range(9000, 9300))
    real = sum(source.weight for source in street.sources if "pandaset" in source.clips)
    assert real / sum(source.weight for source in street.sources) <= 0.3


def test_the_demo_configuration_is_valid_and_a_wrong_one_is_named(tmp_path: Path) -> None:
    demo, real = (read_config(Path(__file__).parents[2] / "config" / f"time3d_{n}.yaml") for n in ("demo", "nuscenes"))
    assert demo.network.map_size == (40, 72)
    assert real.network == demo.network  # fine-tuning starts from the demo's weights
    paper = read_config(Path(__file__).parents[2] / "config" / "time3d_paper.yaml")
    assert paper.network == NetworkConfig(
        class_names=paper.network.class_names, class_sizes=paper.network.class_sizes
    )  # the paper's sizes are the defaults
    assert set(paper.network.class_names) == set(TRACKED)
    (tmp_path / "a.yaml").write_text("network: {strides: 8}")
    with pytest.raises(ConfigurationError, match="strides"):
        read_config(tmp_path / "a.yaml")
    (tmp_path / "a.yaml").write_text("training: {view_scales: [2, 1]}")
    with pytest.raises(ConfigurationError, match="two scales above 0, the smaller one first"):
        read_config(tmp_path / "a.yaml")
    (tmp_path / "a.yaml").write_text("network: {attention_heads: 7}")
    with pytest.raises(ConfigurationError, match="divisible by 7"):
        read_config(tmp_path / "a.yaml")
