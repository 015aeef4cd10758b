"""Recordings: videos, folders, UA-DETRAC and the texts that open them; whole, broken and missing."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from data_helpers import HEIGHT, WIDTH, XML, picture, write_images, write_video

from camtrack_core.datasets import drive
from camtrack_core.datasets.labelled import LabelledVideo, VideoLabels, write_labels
from camtrack_core.datasets.sources import list_sources, open_labelled, open_source
from camtrack_core.datasets.uadetrac import UaDetracSequence, list_sequences
from camtrack_core.datasets.video import FIRST_STAMP_NS, FrameFolder, Video, read_image
from camtrack_core.errors import ConfigurationError, DataError
from camtrack_core.geometry.tracks import Tracks2D


@pytest.mark.parametrize(("name", "code"), [("a.avi", "MJPG"), ("a.mp4", "mp4v")])
def test_video_gives_all_frames_with_stamps_as_often_as_asked(tmp_path: Path, name: str, code: str) -> None:
    video = Video(write_video(tmp_path / name, 8, code))
    assert (video.name, len(video), video.width, video.height) == ("a", 8, WIDTH, HEIGHT)
    for _ in range(2):
        frames = list(video)
        assert [f.time_ns for f in frames] == [FIRST_STAMP_NS + i * 50_000_000 for i in range(8)]
        assert [round(float(f.image.mean()) / 8) for f in frames] == list(range(8))
        assert all(f.labels is None and f.image.dtype == np.uint8 for f in frames)


def test_broken_videos_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.mp4 does not exist"):
        Video(tmp_path / "none.mp4")
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(DataError, match=r"text\.mp4 is not a readable video"):
        Video(tmp_path / "text.mp4")
    whole = write_video(tmp_path / "whole.mp4", 30, "mp4v").read_bytes()
    (tmp_path / "head.mp4").write_bytes(whole[: len(whole) // 2])  # the index of an mp4 stands at its end
    with pytest.raises(DataError, match=r"head\.mp4 is not a readable video"):
        Video(tmp_path / "head.mp4")


def test_video_without_frames_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"empty\.avi"):
        Video(write_video(tmp_path / "empty.avi", 0))


def test_video_that_breaks_off_gives_its_frames_and_then_says_so(tmp_path: Path) -> None:
    whole = write_video(tmp_path / "whole.avi", 30).read_bytes()
    cut = tmp_path / "cut.avi"
    cut.write_bytes(whole[: len(whole) // 2])
    frames = []
    with pytest.raises(DataError, match=r"cut\.avi breaks off after \d+ of 30 frames"):
        frames.extend(Video(cut))
    assert 0 < len(frames) < 30


def test_folder_is_in_natural_order(tmp_path: Path) -> None:
    folder = FrameFolder(write_images(tmp_path / "f", ["im2.png", "im10.png", "im11.JPG"]), frame_rate=10)
    (tmp_path / "f" / "notes.txt").write_text("no image")
    assert [p.name for p in folder.paths] == ["im2.png", "im10.png", "im11.JPG"]
    assert [f.time_ns - FIRST_STAMP_NS for f in folder] == [0, 100_000_000, 200_000_000]


def test_folder_takes_stamps_from_nanosecond_names(tmp_path: Path) -> None:
    stamps = [1533151603512404000, 1533151604012404000]
    folder = FrameFolder(write_images(tmp_path / "f", [f"{s}.png" for s in stamps]))
    assert [f.time_ns for f in folder] == stamps
    cv2.imwrite(str(tmp_path / "f" / f"{stamps[0]}.jpg"), picture(0))
    with pytest.raises(DataError, match="two images of one time"):
        FrameFolder(tmp_path / "f")


def test_missing_and_empty_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        FrameFolder(tmp_path / "none")
    with pytest.raises(DataError, match="holds no"):
        FrameFolder(tmp_path)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize("damage", ["empty", "cut", "garbage"])
def test_broken_image_in_the_middle_is_named(tmp_path: Path, suffix: str, damage: str) -> None:
    folder = write_images(tmp_path / "f", [f"{i}{suffix}" for i in range(3)])
    victim = folder / f"1{suffix}"
    noise = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
    whole = cv2.imencode(suffix, noise)[1].tobytes()
    victim.write_bytes({"empty": b"", "cut": whole[: len(whole) // 2], "garbage": b"x" * 100}[damage])
    frames = iter(FrameFolder(folder))
    next(frames)
    with pytest.raises(DataError, match=rf"1\{suffix}"):
        next(frames)


def test_image_that_vanished_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.png: No such file"):
        read_image(tmp_path / "gone.png")


def test_detrac_labels(detrac: Path) -> None:
    sequence = UaDetracSequence(detrac, "MVI_1")
    first, second, third = sequence
    assert list_sequences(detrac) == ["MVI_1"]
    assert (len(sequence), sequence.weather, second.time_ns - first.time_ns) == (3, "cloudy", 40_000_000)
    assert first.ignored.tolist() == [[1, 2, 11, 22]]
    assert first.labels is not None and second.labels is not None
    assert first.labels.ids.tolist() == [4, 7]
    assert first.labels.xyxy.tolist() == [[10, 20, 30, 30], [80, 50, WIDTH, HEIGHT]]
    assert [sequence.class_names[i] for i in first.labels.class_ids] == ["van", "others"]
    assert first.labels.visible.tolist() == [0.75 * 0.5, 1]
    assert len(second.labels) == 0  # annotated as empty
    assert third.labels is None  # not annotated


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("</sequence>", "", "are broken"),
        ('left="10" top="20" width="20"', 'left="10" top="20"', "needs a number width"),
        ('<box left="80" top="50" width="40" height="30"/>', "", "has no <box>"),
        ('num="1"', 'num="one"', "expected a finite number, got 'one'"),
        ("sequence", "annotation", "expected a <sequence>"),
    ],
)
def test_broken_detrac_annotations_are_named(detrac: Path, old: str, new: str, message: str) -> None:
    path = detrac / "DETRAC-Train-Annotations-XML/MVI_1.xml"
    path.write_text(XML.replace(old, new))
    with pytest.raises(DataError, match=rf"MVI_1\.xml.*{message}"):
        list(UaDetracSequence(detrac, "MVI_1"))


def test_missing_detrac_files_are_named(detrac: Path) -> None:
    with pytest.raises(DataError, match="MVI_2"):
        UaDetracSequence(detrac, "MVI_2")
    images = detrac / "Insight-MVT_Annotation_Train/MVI_1"
    (images / "img00002.jpg").unlink()
    with pytest.raises(DataError, match=r"lacks img00002\.jpg"):
        UaDetracSequence(detrac, "MVI_1")
    (images / "img00003.jpg").unlink()
    with pytest.raises(DataError, match=r"lacks img00002\.jpg, which .*MVI_1\.xml annotates"):
        UaDetracSequence(detrac, "MVI_1")


def test_detrac_images_alone_are_played_and_annotations_alone_read(detrac: Path) -> None:
    write_images(detrac / "Insight-MVT_Annotation_Test/MVI_2", ["img00001.jpg", "img00002.jpg"])
    (detrac / "DETRAC-Train-Annotations-XML/MVI_3.xml").write_text(XML)
    assert list_sequences(detrac) == ["MVI_1", "MVI_2", "MVI_3"]
    images = open_source(f"{detrac}?sequence=MVI_2")
    assert images.class_names == () and [f.labels for f in images] == [None, None]
    annotations = open_source(f"{detrac}?sequence=MVI_3")
    assert isinstance(annotations, UaDetracSequence) and len(annotations) == 2
    assert [len(t.labels) for t in annotations.truth() if t.labels is not None] == [2, 0]
    with pytest.raises(DataError, match=r"MVI_3 has annotations alone: expected images in .*Train.MVI_3"):
        next(iter(annotations))
    (detrac / "DETRAC-Train-Annotations-XML/MVI_3.xml").write_text("<sequence/>")
    with pytest.raises(DataError, match=r"expected images in .*MVI_3 or frames in .*MVI_3\.xml, found none"):
        open_source(f"{detrac}?sequence=MVI_3")


def test_sources_by_what_they_are(tmp_path: Path, detrac: Path) -> None:
    assert isinstance(open_source(str(write_video(tmp_path / "v.avi", 3))), Video)
    assert isinstance(open_source(str(write_images(tmp_path / "f", ["1.png"]))), FrameFolder)
    assert isinstance(open_source(str(detrac / "Insight-MVT_Annotation_Train/MVI_1")), UaDetracSequence)


def test_drive_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asked of the generator; generating takes long and is tested where it is made."""
    monkeypatch.setattr(drive, "Drive", lambda config: SimpleNamespace(class_names=("car",), config=config))
    options = "frames=3&width=96&height=64&camera=roadside"
    opened = open_source(f"drive:7?{options}")
    assert opened.config == drive.DriveConfig(seed=7, frames=3, width=96, height=64, camera="roadside")
    labelled = open_labelled(["drive:8", f"drive:9-11?{options}"])
    assert [d.config.seed for d in labelled] == [8, 9, 10, 11]


@pytest.mark.parametrize("spec", ["drive:", "drive:x", "drive:1?wheels=4", "drive:1?frames=0", "drive:1?frames"])
def test_wrong_drives_are_refused(spec: str) -> None:
    with pytest.raises(ConfigurationError, match="drive:"):
        open_source(spec)


def test_wrong_sources_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected a video file, a folder"):
        open_source("rtsp:camera")
    with pytest.raises(DataError, match="expected VIDEO:LABELS"):
        list(open_labelled([str(tmp_path / "video.mp4")]))
    with pytest.raises(DataError, match="has no labels"):
        list(open_labelled([str(write_images(tmp_path / "f", ["1.png"]))]))
    with pytest.raises(ConfigurationError, match="FIRST-LAST"):
        list(open_labelled(["drive:9-"]))


def test_real_detrac_sequence(data_root: Path) -> None:
    root = data_root / "uadetrac"
    assert list_sequences(root) == ["MVI_20011"]
    frames = list(UaDetracSequence(root, "MVI_20011"))
    assert [f.labels is None for f in frames] == [False] * 2 + [True] * 7
    assert frames[0].image.shape == (540, 960, 3) and len(frames[0].ignored) == 7
    labels = frames[0].labels
    assert labels is not None and len(labels) == 2 and labels.xyxy[:, 3].max() <= 540


def test_real_videos_decode_whole(data_root: Path) -> None:
    video = Video(data_root / "videos/highway_a.mp4")
    assert sum(1 for _ in video) == len(video) == 38


def test_labelled_video_is_a_labelled_source(tmp_path: Path) -> None:
    video = write_video(tmp_path / "v.avi", 3)
    none = [Tracks2D.empty()] * 3
    labels = VideoLabels("v.avi", (WIDTH, HEIGHT), ("car",), none, [np.zeros((0, 5))] * 3)
    write_labels(tmp_path / "v.txt", labels)
    (sequence,) = open_labelled([f"{video}:{tmp_path / 'v.txt'}"])
    assert isinstance(sequence, LabelledVideo)


def test_the_cameras_of_a_rig_are_recordings_with_names_of_their_own() -> None:
    opened = list(open_labelled(["drive:1-2?cameras=6&frames=1&width=64&height=64"]))
    assert len({sequence.name for sequence in opened}) == len(opened) == 2 * len(drive.RIG)
    assert [sequence.config.view for sequence in opened] == 2 * list(drive.RIG.values())
    assert list_sources("drive:1?frames=1") == ["drive:1?frames=1"]
    with pytest.raises(ConfigurationError, match="expected cameras=1 or cameras=6, got cameras=5"):
        list_sources("drive:1?cameras=5")
