"""Training, checkpoints and export: learns, resumes exactly, and the graph says what the network says."""

import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional
from training_helpers import check_guards

from camtrack_core.datasets.frames import Frame, Labels
from camtrack_core.errors import DataError, ModelError
from camtrack_core.geometry.boxes import Boxes2D
from camtrack_core.geometry.tracks import Tracks2D
from camtrack_core.networks.heatmap import distillation_loss
from camtrack_core.runtime import MOST_FRAMES, open_session
from camtrack_core.runtime.batch import Batch
from camtrack_core.training import augmentation, run
from camtrack_core.training.run import cut_log
from camtrack_core.training.shards import batches
from gcnet_tracker import clips, loader, training
from gcnet_tracker.cli import read_config
from gcnet_tracker.clips import Clip
from gcnet_tracker.config import INPUTS, OUTPUTS, NetworkConfig, TrackerConfig, TrainingConfig
from gcnet_tracker.export import FrameGraph, example_inputs, export
from gcnet_tracker.loader import ClipSamples, look_at
from gcnet_tracker.network import GCNet
from gcnet_tracker.targets import UNKNOWN
from gcnet_tracker.tracker import FrameOutput, GCNetModel, Tracker
from gcnet_tracker.training import ASKED, PARTS, TrainingStep, load_network, sees_own, train

torch.set_num_threads(1)  # the tensors are small: threads would only wait for each other

NETWORK = NetworkConfig(backbone="yolox_nano", height=64, width=96, channels=16, correlation_channels=16)


class Squares:
    """Coloured squares that move over a grey ground."""

    name, class_names = "squares", ("van", "kite")

    def __len__(self) -> int:
        return 6

    def __iter__(self):
        for time in range(len(self)):
            image = np.full((72, 128, 3), 90, np.uint8)
            corners = np.array([[10 + 4 * time, 10], [90 - 3 * time, 30]], float)
            for (x, y), tint in zip(corners.astype(int), ((0, 0, 255), (255, 0, 0)), strict=True):
                image[y : y + 28, x : x + 28] = tint
            boxes = np.concatenate([corners, corners + 28], 1)
            labels = Labels(np.array([5, 6]), boxes, np.array([0, 1]), np.ones(2))
            yield Frame(1 + time * 50_000_000, image, labels, np.array([[0.0, 60, 20, 72]]))


@pytest.fixture(scope="module")
def clip() -> Clip:
    return clips.from_sequence(Squares(), NETWORK.class_names)


def test_clips_survive_the_disk_and_map_class_names(clip: Clip, tmp_path: Path) -> None:
    clips.save(clip, tmp_path / "squares.npz")
    again = clips.load(tmp_path / "squares.npz")
    assert len(again) == 6
    for i in range(6):
        assert again.labels[i].class_ids.tolist() == [0, -1]  # a van is a car here, a kite is nothing known
        assert np.array_equal(again.labels[i].xyxy, clip.labels[i].xyxy)
        assert np.array_equal(again.image(i), clip.image(i))
        assert np.array_equal(again.ignored[i], clip.ignored[i])


class Doubtful(Squares):
    """The same squares without labels; detectors see the first with .7, and something that nobody asks for."""

    def __iter__(self):
        for frame in super().__iter__():
            labels = Labels.empty()
            finds = Boxes2D(np.array([frame.labels.xyxy[0], [0.0, 0, 8, 8]]), np.array([0.7, 0.9]), np.array([0, 4]))
            yield replace(frame, labels=labels, ignored=np.array([[0.0, 0, 128, 72]]), finds=finds)


def test_finds_of_detectors_survive_the_disk(clip: Clip, tmp_path: Path) -> None:
    clips.save(clips.from_sequence(Doubtful(), ("truck", "car")), tmp_path / "doubtful.npz")
    again = clips.load(tmp_path / "doubtful.npz").finds
    assert again is not None and clip.finds is None
    for time, finds in enumerate(again):
        assert finds.class_ids.tolist() == [1] and finds.scores.tolist() == [0.7]  # nobody asked for cyclists
        assert finds.xyxy.tolist() == [[10 + 4 * time, 10, 38 + 4 * time, 38]]


def test_detectors_teach_where_labels_say_nothing() -> None:
    """The whole picture is an ignored region, so that no label counts in it."""
    doubtful = clips.from_sequence(Doubtful(), NETWORK.class_names)
    samples = ClipSamples([doubtful], np.ones(1), NETWORK, 1, 1.0, seed=1)
    sample = next(s for s in (samples[i] for i in range(20)) if s["taught"][0].max() > 0.65)
    batch = {name: torch.as_tensor(np.stack([value])) for name, value in sample.items()}
    scores = []
    for weight in (0.0, 1.0):
        torch.manual_seed(0)
        step = TrainingStep(GCNet(NETWORK), TrainingConfig(teacher_weight=weight))
        optimiser = torch.optim.Adam(step.parameters(), 3e-3)
        for _ in range(60):
            optimiser.zero_grad()
            step(batch)["loss"].backward()
            optimiser.step()
        with torch.no_grad():
            maps = step.network.backbone(batch["image"].flatten(0, 1).float())
            found = step.network.correlate(step.network.neck(maps))
        scores.append(float(found.heatmap.sigmoid()[0, 0].flatten()[sample["taught"][0, 0].argmax()]))
    untaught, taught = scores
    assert untaught < 0.3 and taught == pytest.approx(sample["taught"][0, 0].max(), abs=0.1)


def test_pairs_without_an_object_teach_detection_alone() -> None:
    """An empty street, a pair of it alone: nobody is asked for, and every part of the loss is a number."""
    empty = clips.from_sequence(Doubtful(), NETWORK.class_names)
    samples = ClipSamples([empty], np.ones(1), NETWORK, 2, 1.0, seed=1)
    batch = {name: torch.as_tensor(np.stack([value])) for name, value in samples[0].items()}
    torch.manual_seed(0)
    with torch.no_grad():
        parts = TrainingStep(GCNet(NETWORK), TrainingConfig())(batch)
    assert {name: bool(torch.isfinite(part)) for name, part in parts.items()} == dict.fromkeys(PARTS, True)
    assert float(parts["confidence"]) == 0.0 and float(parts["teachers"]) > 0


def test_who_looks_at_another_object_does_not_see_its_own() -> None:
    near = torch.tensor([[[0.0, 0.9, 0.1, 0.0]]]).expand(1, 3, 4)  # its centre, a cell at its edge, two elsewhere
    logits = torch.tensor([[[0.0, 2.0, 1.0, 1.5], [0.0, 0.5, 3.0, 2.0], [0.0, 1.9, 1.8, 2.0]]])
    assert sees_own(logits, near).tolist() == [[True, True, False]]
    assert sees_own(None, None).all()  # Eq. 2 as printed has no cells


def test_distillation_is_least_at_the_teachers_score() -> None:
    scores = torch.tensor([0.2, 0.7])
    right = torch.logit(scores).requires_grad_()
    assert float(distillation_loss(right, scores)) == pytest.approx(0, abs=1e-9)
    wrong = torch.tensor([0.0])  # confidence .5: (.7 - .5)^2 (-.7 log .5 - .3 log .5)
    assert float(distillation_loss(wrong, scores[1:])) == pytest.approx(0.04 * math.log(2), rel=1e-6)


def test_broken_clips_are_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "bad.npz").write_bytes(b"PK\x03\x04 not really")
    with pytest.raises(DataError, match=r"bad\.npz: expected a clip"):
        clips.load(tmp_path / "bad.npz")


def test_views_keep_boxes_on_their_objects() -> None:
    """A bright rectangle is found again where its box went, for any scale, shift and flip."""
    rng = np.random.default_rng(0)
    for _ in range(30):
        source = np.zeros((180, 320, 3), np.uint8)
        source[60:120, 100:200] = 255
        view = augmentation.random_view(rng, (180, 320), 96, 64)
        x1, y1, x2, y2 = view.boxes(np.array([[100.0, 60, 200, 120]]))[0]
        inside = view.image(source)[..., 0] > 200
        rows, columns = np.nonzero(inside)
        if x1 < 1 or y1 < 1 or x2 > 95 or y2 > 63 or not len(rows):
            continue
        found = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert found == pytest.approx([x1, y1, x2, y2], abs=1.6)


@given(x=st.floats(0, 320), y=st.floats(0, 180), seed=st.integers(0, 2**32 - 1))
def test_a_view_holds_what_it_has_to(x: float, y: float, seed: int) -> None:
    """An eighth of its size from the edges, unless that would show what is outside the picture; at the scales asked."""
    rng, point, size = np.random.default_rng(seed), np.array([x, y]), np.array([96, 64])
    view = augmentation.random_view(rng, (180, 320), 96, 64, (0.8, 3.0), point)
    assert 0.8 * 0.3 <= view.scale <= 3.0 * 0.3
    within = (view.scale * point + view.shift) / size
    first, last = view.shift, view.shift + view.scale * np.array([320, 180])  # the picture's edges in the view
    picture = np.maximum(last - first, size) / size
    assert (within > -1e-9).all() and (within < 1 + 1e-9).all()
    touches = (np.abs(first) < 1e-6) | (np.abs(last - size) < 1e-6) | (picture <= 1)
    assert (((within > 1 / 8 - 1e-9) & (within < 7 / 8 + 1e-9)) | touches).all()


def test_samples_repeat_and_pairs_share_identities(clip: Clip) -> None:
    """The only known object is in both frames or has left the view of the second."""
    samples = ClipSamples([clip], np.ones(1), NETWORK, 2, 1.0, seed=3)
    followed = 0
    for index in range(12):
        one, two = samples[index], samples[index]
        assert all(np.array_equal(one[k], two[k]) for k in one)
        past, now = one["objects"]
        followed += one["relation"][0] == 0
        assert (one["relation"][0] == 0) == bool(past and now)
        assert (one["relation"][int(past) :] == UNKNOWN).all()
    assert followed >= 6


def test_a_pair_shows_an_object_again_or_is_one_picture_twice(clip: Clip) -> None:
    """Frames 0 and 2 share an object, frame 1 has none of it, frame 3 is too late."""
    rows = [np.array([5]), np.array([6]), np.array([5, 7]), np.array([5])]
    labels = [Labels(ids, np.tile([10.0, 10, 60, 60], (len(ids), 1)), 0 * ids, np.ones(len(ids))) for ids in rows]
    few = Clip(clip.frames[:4], labels, clip.ignored[:4], np.array([0.0, 0.4, 0.8, 9.0]))
    samples = ClipSamples([few], np.ones(1), NETWORK, 2, 1.0, seed=0)
    rng = np.random.default_rng(0)
    assert {samples._partner(rng, few, 0) for _ in range(20)} == {2}
    assert {samples._partner(rng, few, 1) for _ in range(20)} == {1}
    assert {samples._partner(rng, few, 3) for _ in range(20)} == {3}


def test_half_of_the_pairs_have_views_of_their_own(clip: Clip, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of these half differ by up to 1.6 in scale, half by up to 3.3."""
    made, another = [], loader._another

    def counted(view: augmentation.View, rng: np.random.Generator) -> augmentation.View:
        made.append((view, another(view, rng)))
        return made[-1][1]

    monkeypatch.setattr(loader, "_another", counted)
    samples = ClipSamples([clip], np.ones(1), NETWORK, 2, 1.0, seed=0)
    for index in range(200):
        samples[index]
    pairs = made[::2]  # that after the second frame has no picture
    assert 0.4 < len(pairs) / 200 < 0.6
    ratios = np.abs([np.log(after.scale / before.scale) for before, after in pairs])
    assert np.log(1.6) < ratios.max() < np.log(3.4)
    assert 0.1 < (ratios > 0.5).mean() < 0.5  # of half of them 7 in 12
    shifts = [np.linalg.norm(after.shift - before.shift) for before, after in pairs]
    assert np.median(shifts) > 5


def test_absent_and_masked_objects_are_taught_to_be_none(clip: Clip, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each pair is asked for a quarter as many objects of another clip, and a quarter of the present have no place."""
    samples = ClipSamples([clip, clip], np.ones(2), NETWORK, 2, 1.0, seed=3)
    chosen, wanted = [], {0, 1}
    for sample in (samples[index] for index in range(60)):
        if int(sample["clip"]) in wanted and sample["relation"][0] == 0:
            chosen.append(sample)
            wanted.discard(int(sample["clip"]))
    assert not wanted
    batch = {name: torch.as_tensor(np.stack([sample[name] for sample in chosen])) for name in chosen[0]}
    batch["chance"][:] = 1.0
    batch["chance"][0, 0] = TrainingConfig().hidden - 0.01
    torch.manual_seed(0)
    step, asked, taught = TrainingStep(GCNet(NETWORK), TrainingConfig()), [], []
    ask, entropy = step.network.ask, functional.binary_cross_entropy_with_logits

    def noting_ask(memory, queries, stored, masked=None):
        asked.append((queries, masked))
        return ask(memory, queries, stored, masked)

    def noting_entropy(logits, target, *rest, **named):
        taught.append(target)
        return entropy(logits, target, *rest, **named)

    monkeypatch.setattr(step.network, "ask", noting_ask)
    monkeypatch.setattr(training.functional, "binary_cross_entropy_with_logits", noting_entropy)
    monkeypatch.setattr(training, "sees_own", lambda logits, near: torch.ones_like(near[..., 0], dtype=torch.bool))
    step(batch)
    _, (queries, masked) = asked
    assert queries.shape[2] == ASKED + ASKED // 4
    assert torch.equal(queries[0, :, ASKED:], queries[1, :, : ASKED // 4])
    assert masked[0, 0].any() and not masked[1].any() and not masked[0, 1:].any()
    # the first pair's own object is masked, the second's is not, and each has one of the other's, in this order
    assert taught[-1].tolist() == [0, 0, 1, 0]
    assert TrainingConfig().hidden == 0.25 and TrainingConfig().max_gap == 1.0
    street = read_config(Path(__file__).parents[2] / "config" / "gcnet_street.yaml").training
    assert (street.hidden, street.max_gap) == (0.25, 1.0)


def test_rare_classes_are_shown_as_often_as_common_ones(clip: Clip) -> None:
    """One bus among forty cars, in one of ten frames: half of the views that look for an object hold it."""
    car, bus = 0, 2
    xyxy = np.array([[10.0, 10, 60, 60], [90.0, 40, 120, 60]])
    cars = Labels(np.arange(4), xyxy[[0] * 4], np.full(4, car), np.ones(4))
    both = Labels(np.arange(5), xyxy[[0] * 4 + [1]], np.array([car] * 4 + [bus]), np.ones(5))
    many = Clip(clip.frames[:1] * 10, [both] + [cars] * 9, clip.ignored[:1] * 10, np.arange(10.0))
    rng = np.random.default_rng(1)
    shown = [look_at(rng, many)[1] for _ in range(400)]
    on_bus = [place is not None and bool(np.allclose(place, [105, 50])) for place in shown]
    assert 0.18 < np.mean(on_bus) < 0.32
    assert 0.4 < np.mean([place is None for place in shown]) < 0.6


def test_stage_3_trains_all_but_the_backbone(clip: Clip, tmp_path: Path) -> None:
    """Neither the backbone's weights nor its statistics move; the neck and the correlation do."""
    first = GCNet(NETWORK)
    torch.save({"network": NETWORK.model_dump(), "model": first.state_dict()}, tmp_path / "start.pt")
    settings_ = settings(detection_steps=0, tracking_steps=0, head_steps=3, head_pairs=2)
    model = train(tmp_path / "run", [clip], np.ones(1), NETWORK, settings_, None, tmp_path / "start.pt")
    before, after = first.state_dict(), model.state_dict()
    moved = {name for name in after if not torch.equal(before[name], after[name])}
    assert not any(name.startswith("backbone") for name in moved)
    assert {"neck.smooth.0.0.weight", "to_query.weight", "correlation.log_temperature", "to_box.weight"} <= moved


def settings(**changes: object) -> TrainingConfig:
    defaults = {"batch_size": 2, "detection_steps": 3, "tracking_steps": 3, "workers": 0, "checkpoint_every": 100}
    return TrainingConfig(**(defaults | changes))


def test_training_resumes_exactly(clip: Clip, tmp_path: Path) -> None:
    whole = train(tmp_path / "whole", [clip], np.ones(1), NETWORK, settings(), None)
    halves = tmp_path / "halves"
    with pytest.raises(KeyboardInterrupt):
        _interrupted(halves, clip, at=5)
    resumed = train(halves, [clip], np.ones(1), NETWORK, settings(checkpoint_every=2), None)
    steps = [int(line.split(",")[0]) for line in (halves / "losses.csv").read_text().splitlines()[1:]]
    assert steps == [1, 2, 3, 4, 5, 6]  # the fifth, which the checkpoint did not hold, once
    for (name, a), b in zip(whole.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.allclose(a.float(), b.float(), atol=1e-6), name
    again = load_network(tmp_path / "whole" / "checkpoint.pt")
    assert all(torch.equal(a, b) for a, b in zip(whole.state_dict().values(), again.state_dict().values(), strict=True))
    assert (tmp_path / "whole" / "curves.png").stat().st_size > 1000
    with pytest.raises(ModelError, match="expected the network"):
        other = NETWORK.model_copy(update={"gate": "none"})
        train(halves, [clip], np.ones(1), other, settings(), None)


def _interrupted(folder: Path, clip: Clip, at: int) -> None:
    """Trains with a checkpoint every second step and is stopped after step `at`."""
    original = run.append_log

    def stop(path, step, names, parts):
        original(path, step, names, parts)
        if step == at:
            raise KeyboardInterrupt

    run.append_log = stop
    try:
        train(folder, [clip], np.ones(1), NETWORK, settings(checkpoint_every=2), None)
    finally:
        run.append_log = original


@pytest.mark.parametrize(("backbone", "still"), [("resnet18", "early"), ("yolox_nano", "all")])
def test_what_is_frozen_stays_and_what_is_not_finite_leaves_no_trace(
    clip: Clip, tmp_path: Path, backbone: str, still: str
) -> None:
    network = NetworkConfig(**(NETWORK.model_dump() | {"backbone": backbone}))
    model, training = GCNet(network), settings(frozen=still, checkpoint_every=1)
    samples = ClipSamples([clip], np.ones(1), network, 2, 1.0, seed=0)
    going = run.Run(tmp_path, model, model.backbone, network, training, 3, PARTS)
    check_guards(going, TrainingStep(model, training), batches(samples, 2, 0, 0, 1, 0), model.backbone)


def test_rows_after_the_checkpoint_leave_the_log(tmp_path: Path) -> None:
    log = tmp_path / "losses.csv"
    cut_log(log, 3, ("loss",))
    assert log.read_bytes() == b"step,loss\r\n"
    log.write_bytes(b"step,loss\r\n1,0.5\r\n2,0.4\r\n3,0.3\r\n4,0.2\r\n12")  # the last one was interrupted
    cut_log(log, 3, ("loss",))
    assert log.read_bytes() == b"step,loss\r\n1,0.5\r\n2,0.4\r\n3,0.3\r\n"
    for broken in (b"", b"step,lo", log.read_bytes()):  # the header may be interrupted, too
        log.write_bytes(broken)
        cut_log(log, 0, ("loss",))
        assert log.read_bytes() == b"step,loss\r\n"
    cut_log(log, 0, ("loss",))
    assert log.read_bytes() == b"step,loss\r\n"


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"\x80\x02broken", b"PK\x03\x04 not really"])
def test_a_broken_checkpoint_is_a_sentence(clip: Clip, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "checkpoint.pt").write_bytes(content)
    for use in (
        lambda: load_network(tmp_path / "checkpoint.pt"),
        lambda: train(tmp_path, [clip], np.ones(1), NETWORK, settings(), None),
    ):
        with pytest.raises(ModelError, match=r"checkpoint\.pt: expected a checkpoint"):
            use()


@pytest.mark.parametrize(("state", "words"), [
    ([1], "expected a checkpoint"),
    ({"network": 5}, "expected a checkpoint"),
    ({"network": {"strides": 4}, "model": {}}, "expected the network"),
    ({"network": NETWORK.model_dump(), "model": 3}, "expected a checkpoint of this training"),
    ({"network": NETWORK.model_dump(), "model": {}}, "expected a checkpoint of this training"),
])  # fmt: skip
def test_a_checkpoint_of_something_else_is_a_sentence(clip: Clip, tmp_path: Path, state: object, words: str) -> None:
    torch.save(state, tmp_path / "checkpoint.pt")
    with pytest.raises(ModelError, match="expected a"):
        load_network(tmp_path / "checkpoint.pt")
    with pytest.raises(ModelError, match=words):
        train(tmp_path, [clip], np.ones(1), NETWORK, settings(), None)


def test_training_learns_six_frames(clip: Clip, tmp_path: Path) -> None:
    train(
        tmp_path,
        [clip],
        np.ones(1),
        NETWORK,
        settings(batch_size=4, detection_steps=60, tracking_steps=0, backbone_rate=1.0),
        None,
    )
    losses = np.array([float(line.split(",")[-1]) for line in (tmp_path / "losses.csv").read_text().splitlines()[1:]])
    assert losses[-10:].mean() < 0.75 * losses[:10].mean()


@pytest.mark.slow
def test_two_processes_train_one_model(tmp_path: Path, clip: Clip) -> None:
    """torchrun with two processes: both end with the same weights, and the run has one checkpoint."""
    clips.save(clip, tmp_path / "squares.npz")
    script = tmp_path / "two.py"
    script.write_text(f"""
import numpy as np, os, torch
from pathlib import Path
from gcnet_tracker import clips
from gcnet_tracker.config import NetworkConfig, TrainingConfig
from gcnet_tracker.training import train
torch.set_num_threads(1)
network = NetworkConfig(**{NETWORK.model_dump()!r})
settings = TrainingConfig(**{settings().model_dump()!r})
folder = Path({str(tmp_path)!r})
model = train(folder / "run", [clips.load(folder / "squares.npz")], np.ones(1), network, settings, None)
total = sum(p.double().abs().sum().item() for p in model.parameters())
Path(folder, f"rank{{os.environ['RANK']}}").write_text(repr(total))
""")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "rank0").read_text() == (tmp_path / "rank1").read_text()
    assert (tmp_path / "run" / "checkpoint.pt").exists()


@pytest.fixture(scope="module")
def network() -> GCNet:
    """Random weights that give distinct peaks: an untrained heatmap is flat, and ties have no order."""
    torch.manual_seed(0)
    model = GCNet(NETWORK)
    for module in model.modules():
        if isinstance(module, (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d)):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    torch.nn.init.normal_(model.classification[-1].weight, std=0.5)
    torch.nn.init.zeros_(model.classification[-1].bias)
    return model.eval()


@pytest.fixture(scope="module")
def exported(network: GCNet, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Its graph with given options, each made once: an export takes seconds."""
    folder = tmp_path_factory.mktemp("exported")

    @cache
    def made(refresh: str = "query", precision: str = "float32", cameras: int = 1) -> Path:
        path = folder / f"{refresh}_{precision}_{cameras}.onnx"
        export(network, path, precision, refresh, cameras)
        return path

    return made


def inputs(network: GCNet) -> tuple[torch.Tensor, ...]:
    torch.manual_seed(1)
    image, queries, values = example_inputs(network)
    return image, torch.randn_like(queries), torch.randn_like(values)


@pytest.mark.parametrize("device", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("refresh", ["query", "key"])
def test_exported_graph_says_what_torch_says(
    network: GCNet, exported: Callable[..., Path], device: str, refresh: str
) -> None:
    session = open_session(exported(refresh), device, precision="f32")
    assert session.metadata["camtrack_model"] == "gcnet" and session.metadata["width"] == "96"
    given = inputs(network)
    with torch.no_grad():
        expected = dict(zip(OUTPUTS, FrameGraph(network, refresh)(*given), strict=True))
    result = session.run(dict(zip(INPUTS, (x.numpy() for x in given), strict=True)))
    peaks = expected["scores"] > 0.02
    assert peaks.sum() >= 3
    for name in OUTPUTS:
        got, want = torch.from_numpy(np.array(result[name])), expected[name]
        if not name.startswith("track"):  # cells that are no peaks share the score 0 and have no order
            got, want = (x[:, :, peaks[0]] if name.startswith("new") else x[:, peaks[0]] for x in (got, want))
        assert torch.allclose(got, want, rtol=1e-3, atol=2e-2 if "boxes" in name else 2e-4), name


def test_a_track_remembers_a_share_of_what_it_sees(network: GCNet) -> None:
    """Of directions: what a cosine compares. The whole of it is the paper's listing, nothing of it the first look."""
    given = inputs(network)
    with torch.no_grad():
        listed, shared, first = (FrameGraph(network, "query", share)(*given)[7] for share in (1.0, 0.25, 0.0))
    before, seen = (functional.normalize(x, dim=1) for x in (given[1], listed))
    assert torch.allclose(first, before, atol=1e-6)
    assert torch.allclose(shared, 0.75 * before + 0.25 * seen, atol=1e-6)


def test_half_precision_graph_is_close(network: GCNet, exported: Callable[..., Path]) -> None:
    path = exported("query", "float16")
    given = dict(zip(INPUTS, (x.numpy() for x in inputs(network)), strict=True))
    half = open_session(path, "onnxruntime").run(given)
    with torch.no_grad():
        full = dict(zip(OUTPUTS, FrameGraph(network, "query")(*inputs(network)), strict=True))
    assert half["track_boxes"].dtype == np.float32
    assert np.abs(half["track_boxes"] - full["track_boxes"].numpy()).max() < 2.0  # pixels
    assert np.abs(half["track_confidences"] - full["track_confidences"].numpy()).max() < 0.02
    assert path.stat().st_size < 0.65 * exported("query").stat().st_size


def keep(tracker: Tracker, found: list[Tracks2D], answer: FrameOutput) -> None:
    found.append(tracker.update(answer))


@pytest.mark.slow
def test_a_graph_for_any_number_of_cameras_tracks_each_as_that_for_one_does(exported: Callable[..., Path]) -> None:
    """Two cameras with pictures of unlike sizes; of the second the third frame does not come."""
    graphs = exported("query"), exported("query", "float32", 0)
    single, several = (GCNetModel(graph, "onnxruntime", threads=1) for graph in graphs)
    assert (single.cameras, several.cameras) == (1, MOST_FRAMES)
    config = TrackerConfig(track_threshold=0.3, keep_threshold=0.1)
    together, alone = ([Tracker(model, config) for _ in range(2)] for model in (several, single))
    batch, rng, compared = Batch(several, patience=60), np.random.default_rng(0), 0
    for tracker in together:
        batch.join(tracker)
    for index in range(3):
        images = [rng.integers(0, 256, (rows, 96, 3), np.uint8) for rows in (64, 48)][: 1 if index == 2 else 2]
        found: list[Tracks2D] = []
        for tracker, image in zip(together, images, strict=False):
            batch.add(tracker, partial(tracker.query, image), partial(keep, tracker, found))
        batch.run()
        assert len(found) == len(images)
        for tracker, image, tracks in zip(alone, images, found, strict=False):
            expected = tracker.step(image)
            np.testing.assert_array_equal(tracks.ids, expected.ids)
            np.testing.assert_allclose(tracks.xyxy, expected.xyxy, atol=2e-2)
            compared += len(expected)
    assert compared > 5
