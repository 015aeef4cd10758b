"""Results that a bag has recorded come back as the files that `evaluate` reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from test_bag import Trip

from camtrack.bag import BagOptions, write_bag
from camtrack.results import write_results
from camtrack_core.datasets.frames import truth_of
from camtrack_core.datasets.sources import open_source
from camtrack_core.errors import DataError
from camtrack_core.evaluation.mot_text import read_mot
from camtrack_core.evaluation.nuscenes_submission import read_submission


@pytest.fixture
def bag(tmp_path: Path) -> Path:
    """Its second image has no results."""
    write_bag({"camera": Trip()}, tmp_path / "trip", BagOptions(quality=90, truth=True))
    return tmp_path / "trip"


def test_boxes_in_the_image_come_back_by_their_stamps(bag: Path, tmp_path: Path) -> None:
    written = write_results(bag, str(bag), tmp_path / "out", "/camera/ground_truth")
    assert (written.file, written.frames, written.answered) == (tmp_path / "out/trip-camera.txt", 4, 3)
    for found, frame in zip(read_mot(written.file, 4), Trip(), strict=True):
        labels = frame.labels
        assert found.ids.tolist() == ([] if labels is None else labels.ids.tolist())
        if labels is not None:
            np.testing.assert_allclose(found.xyxy, labels.xyxy, atol=1e-3)
            np.testing.assert_allclose(found.scores, labels.visible, atol=1e-4)


def test_tracks_in_space_come_back_as_a_submission(data_root: Path, tmp_path: Path) -> None:
    source = f"{data_root / 'nuscenes'}?scene=scene-0103&camera=CAM_FRONT"
    scene = open_source(source)
    write_bag({"front": scene}, tmp_path / "scene", BagOptions(quality=50, truth=True))
    written = write_results(tmp_path / "scene", source, tmp_path / "out", "/front/ground_truth_3d")
    assert written.file.name == "scene-0103-CAM_FRONT.json" and written.answered == 40
    submitted = read_submission(written.file)
    for (token, _), truth in zip(scene.keys(), truth_of(scene), strict=True):  # type: ignore[attr-defined]
        found, boxes = submitted[token], truth.boxes3d
        order = np.argsort(boxes.centre[:, 0]), np.argsort(found.boxes.centre[:, 0])
        np.testing.assert_allclose(found.boxes.centre[order[1]], boxes.centre[order[0]], atol=1e-4)
        np.testing.assert_allclose(found.boxes.size[order[1]], boxes.size[order[0]], atol=1e-4)
        turn = found.boxes.yaw[order[1]] - boxes.yaw[order[0]]
        np.testing.assert_allclose(np.cos(turn), 1, atol=1e-6)


def test_tracks_in_the_cameras_frame_are_no_submission(
    data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("camtrack.bag.FIXED_FRAME", "camera")
    source = f"{data_root / 'nuscenes'}?scene=scene-0103&camera=CAM_FRONT"
    write_bag({"front": open_source(source)}, tmp_path / "scene", BagOptions(quality=50, truth=True))
    with pytest.raises(DataError, match="expected tracks in the frame map, got them in camera"):
        write_results(tmp_path / "scene", source, tmp_path / "out", "/front/ground_truth_3d")


def test_what_does_not_fit_is_a_sentence(bag: Path, tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match="one topic of results beside the truth; name it with --topic, found /camera/ground_truth, "
    ):
        write_results(bag, str(bag), tmp_path / "out")
    with pytest.raises(DataError, match="expected results on /nobody, found"):
        write_results(bag, str(bag), tmp_path / "out", "/nobody")
    with pytest.raises(DataError, match="expected a recording of nuScenes"):
        write_results(bag, str(bag), tmp_path / "out", "/camera/ground_truth_3d")
    write_bag({"camera": Trip(delay_ns=7)}, tmp_path / "late", BagOptions(quality=90))
    with pytest.raises(DataError, match=r"no result for a frame of .*late: it begins at 1\.000 s"):
        write_results(bag, str(tmp_path / "late"), tmp_path / "out", "/camera/ground_truth")
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot write"):
        write_results(bag, str(bag), tmp_path / "file", "/camera/ground_truth")
