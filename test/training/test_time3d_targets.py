"""Time3D's clips, augmentation and batches: geometry stays right in every view."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from network_helpers import CAMERA, Street

from camtrack_core.errors import DataError
from camtrack_core.networks.letterbox import PADDING
from camtrack_core.training import gaussians
from camtrack_core.training.augmentation import View
from time3d_tracker import clips, level, targets
from time3d_tracker.config import ATTRIBUTES, NetworkConfig, TrainingConfig
from time3d_tracker.loader import ClipSamples, choose, motions

CONFIG = NetworkConfig(backbone="yolox_nano", stride=8, height=96, width=160, slots=16, embedding=16, attention_heads=2)


@pytest.fixture(scope="module")
def clip() -> clips.Clip:
    return clips.from_sequence(Street(), CONFIG.class_names)


def test_a_clip_survives_saving(clip: clips.Clip, tmp_path: Path) -> None:
    clips.save(clip, tmp_path / "a.npz")
    back = clips.load(tmp_path / "a.npz")
    assert len(back) == 6
    np.testing.assert_array_equal(back.times, clip.times)
    np.testing.assert_array_equal(back.image(2), clip.image(2))
    for i in range(6):
        np.testing.assert_array_equal(back.boxes[i].centre, clip.boxes[i].centre)
        np.testing.assert_array_equal(back.poses[i].rotation, clip.poses[i].rotation)
        np.testing.assert_array_equal(back.attributes[i], clip.attributes[i])
    (tmp_path / "b.npz").write_bytes(b"no clip")
    with pytest.raises(DataError, match="expected a clip"):
        clips.load(tmp_path / "b.npz")


def test_classes_and_motion_attributes(clip: clips.Clip) -> None:
    assert [CONFIG.class_names[c] if c >= 0 else None for c in clip.labels[0].class_ids] == ["car", "pedestrian", None]
    said = [[ATTRIBUTES[a] for a in frame[:2]] for frame in clip.attributes]
    assert said == [["moving", "moving"]] * 2 + [["moving", "stopped"]] * 4
    still = [replace(b, velocity=np.zeros((3, 3))) for b in clip.boxes]
    assert ATTRIBUTES[clips.motion_attributes(clip.labels, still, CONFIG.class_names)[0][0]] == "parked"


def test_a_sequence_without_cameras_is_refused() -> None:
    class Blind(Street):
        def __iter__(self):  # type: ignore[no-untyped-def]
            return (replace(frame, camera_pose=None) for frame in super().__iter__())

    with pytest.raises(DataError, match="camera, pose"):
        clips.from_sequence(Blind(), CONFIG.class_names)


@pytest.mark.parametrize("flip", [False, True])
def test_intrinsics_change_with_the_picture(clip: clips.Clip, flip: bool) -> None:
    """Boxes of the view, projected by its camera, fall where the picture shows them."""
    view = View(0.7, np.array([-20.0, 5.0]), flip, 160, 96)
    pose, boxes = clip.poses[1], clip.boxes[1]
    projection = targets.view_projection(view, clip.intrinsics[1], pose)
    centre, yaw, velocity, seen = targets.view_boxes(view, boxes, level.level_pose(pose))
    points = level.corners(centre, boxes.size, yaw)
    found = points @ projection.T
    found = found[..., :2] / found[..., 2:]
    original = CAMERA.project(pose.inverse().apply(boxes.corners()))  # the same corners in another order
    moved = original * 0.7 + [-20, 5]
    moved[..., 0] = 160 - moved[..., 0] if flip else moved[..., 0]
    for mine, theirs in zip(found, moved, strict=True):
        assert np.linalg.norm(mine[:, None] - theirs, axis=-1).min(1).max() < 1e-6
    heading = np.stack([np.cos(yaw), 0 * yaw, -np.sin(yaw)], 1)
    assert (heading[0] @ velocity[0]) == pytest.approx(np.cos(0.3) * 6)
    np.testing.assert_allclose(seen.apply(centre), boxes.centre, atol=1e-9)


@pytest.mark.parametrize("scale", [0.45, 0.58, 0.62, 0.8, 1.0, 1.4, 2.0])
@pytest.mark.parametrize("flip", [False, True])
def test_a_spot_of_the_picture_moves_as_the_matrix_says(scale: float, flip: bool) -> None:
    """Its centroid, to a twentieth of a pixel: at 30 m half a pixel is more than a decimetre."""
    source = np.full((180, 320, 3), PADDING, np.uint8)
    source[80:100, 180:212] = 250
    view = View(scale, np.array([96.0, 64.0]) - scale * np.array([196.0, 90.0]), flip, 192, 128)
    picture = view.image(source)[..., 0].astype(float) - PADDING
    x = (picture.sum(0) * (np.arange(192) + 0.5)).sum() / picture.sum()
    y = (picture.sum(1) * (np.arange(128) + 0.5)).sum() / picture.sum()
    np.testing.assert_allclose([x, y], (targets.view_matrix(view) @ [196, 90, 1])[:2], atol=0.05)


def test_heatmap_against_loops() -> None:
    xyxy = np.array([[10.0, 10, 60, 50], [90, 20, 120, 90]])
    ignored = np.array([[128.0, 0, 160, 16]])
    found, counted = gaussians.build(xyxy, np.array([1, 1]), ignored, 5, CONFIG.stride, CONFIG.map_size)
    for row in range(12):
        for column in range(20):
            best = 0.0
            for x1, y1, x2, y2 in xyxy:
                sx, sy = ((b - a) / 8 * 0.7 / 3.9 for a, b in ((x1, x2), (y1, y2)))
                dx, dy = column - np.floor((x1 + x2) / 16), row - np.floor((y1 + y2) / 16)
                best = max(best, np.exp(-(dx**2 / sx**2 + dy**2 / sy**2) / 2))
            assert found[1, row, column] == pytest.approx(best, abs=1e-6)
            assert counted[row, column] == (0 if row < 2 and column >= 16 else 1)
    assert found[[0, 2, 3, 4]].max() == 0


def test_samples_are_whole_and_repeatable(clip: clips.Clip) -> None:
    samples = ClipSamples([clip], np.ones(1), CONFIG, TrainingConfig(clip_frames=3, max_gap=2, seed=1))
    seen = 0
    for index in range(12):
        a, b = samples[index], samples[index]
        for name, value in a.items():
            np.testing.assert_array_equal(value, b[name], err_msg=name)
            assert np.isfinite(value).all(), name
        assert a["image"].shape == (3, 3, 96, 160)
        assert a["time"][0] == 0 and (np.diff(a["time"]) > 0.09).all()
        known = a["ids"] >= 0
        seen += known.sum()
        for t, row in zip(*np.nonzero(known), strict=True):
            pixel = a["projection"][t] @ a["translation"][t, row]
            np.testing.assert_allclose(pixel[:2] / pixel[2], a["keypoints"][t, row, 8], atol=0.05)
            column, line = a["cells"][t, row]
            assert a["heatmap"][t, a["class_ids"][t, row], line, column] == 1
    assert seen > 20


def test_boxes_in_space_belong_to_their_rows_whatever_the_ids(clip: clips.Clip) -> None:
    """A data set may give one id twice, or numbers beyond any row: the samples are the same but for their ids."""
    training = TrainingConfig(clip_frames=3, max_gap=2, seed=1)
    shown = 0
    for ids in ([2**62, 2**62 + 1, 2**62 + 2], [9, 9, 9]):
        labels = [replace(each, ids=np.array(ids)) for each in clip.labels]
        usual, other = (
            ClipSamples([one], np.ones(1), CONFIG, training) for one in (clip, replace(clip, labels=labels))
        )
        renamed = dict(zip(clip.labels[0].ids.tolist(), ids, strict=True)) | {-1: -1}
        for index in range(6):
            expected, found = usual[index], other[index]
            assert found["ids"].tolist() == np.vectorize(renamed.get)(expected["ids"]).tolist()
            for name in expected.keys() - {"ids"}:
                np.testing.assert_array_equal(found[name], expected[name], err_msg=name)
            shown += ((found["ids"] >= 0).sum(1) > 1).sum()
    assert shown > 10  # frames with both known objects


def test_motion_leads_from_frame_to_frame_in_mirrored_worlds_too(clip: clips.Clip) -> None:
    true = {"stated_pitch": 0, "stated_height": 0, "stated_focal": 0}  # a wrong focal length turns in other angles
    samples = ClipSamples([clip], np.ones(1), CONFIG, TrainingConfig(clip_frames=3, max_gap=2, seed=1, **true))
    checked = 0
    for index in range(30):
        s = samples[index]
        x, y, z, sin, cos = s["motion"][2, 0].astype(float)
        turn = np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]])
        for row, identity in enumerate(s["ids"][0]):
            later = np.flatnonzero(s["ids"][2] == identity)
            if identity >= 0 and len(later):
                way = s["velocity"][2, later[0]] * s["time"][2]
                if np.linalg.norm(way) > 0 and identity != 4:
                    continue  # the one that stands for a while
                expected = turn @ s["translation"][0, row] - [x, y, z] + way
                np.testing.assert_allclose(s["translation"][2, later[0]], expected, atol=1e-3)
                checked += 1
    assert checked > 10


def test_frames_of_a_sample_ascend_and_short_recordings_repeat() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        chosen = choose(rng, 20, 4, 3)
        assert (np.diff(chosen) >= 1).all() and (np.diff(chosen) <= 3).all()
        assert chosen[0] >= 0 and chosen[-1] < 20
        assert set(choose(rng, 1, 3, 5).tolist()) == {0}


def test_motions_of_one_frame_to_itself_are_none() -> None:
    rotation = np.linalg.qr(np.random.default_rng(0).normal(0, 1, (1, 3, 3)))[0]
    np.testing.assert_allclose(motions(rotation, np.ones((1, 3)))[0, 0], [0, 0, 0, 0, 1], atol=1e-6)
    assert torch.from_numpy(motions(rotation, np.ones((1, 3)))).dtype == torch.float32
