"""Times of recordings without stamps: those of the container, those in names, and assumptions that are said."""

from __future__ import annotations

import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from data_helpers import HEIGHT, WIDTH, write_images, write_video

from camtrack_core.datasets.motchallenge import MotChallengeSequence
from camtrack_core.datasets.video import FIRST_STAMP_NS, FrameFolder, Video
from camtrack_core.errors import DataError

MS = 1_000_000


def with_sample_times(mp4: bytes, ticks: list[int]) -> bytes:
    """An mp4, whose index stands at its end, with another duration of each frame."""
    at = mp4.index(b"stts") - 4
    (size,) = struct.unpack_from(">I", mp4, at)
    entries = b"".join(struct.pack(">II", 1, tick) for tick in ticks)
    table = struct.pack(">I4sII", 16 + len(entries), b"stts", 0, len(ticks)) + entries
    changed = bytearray(mp4[:at] + table + mp4[at + size :])
    for name in (b"moov", b"trak", b"mdia", b"minf", b"stbl"):
        place = changed.index(name) - 4
        struct.pack_into(">I", changed, place, struct.unpack_from(">I", changed, place)[0] + len(table) - size)
    return bytes(changed).replace(b"edts", b"free")  # the edit list ends the film where it ended before


def test_stamps_of_a_video_are_those_of_its_container(tmp_path: Path) -> None:
    whole = write_video(tmp_path / "even.mp4", 5, "mp4v", rate=10).read_bytes()
    at = whole.index(b"stts") + 12
    tick = struct.unpack_from(">I", whole, at + 4)[0]  # of a tenth of a second
    (tmp_path / "uneven.mp4").write_bytes(with_sample_times(whole, [tick, tick, 10 * tick, 10 * tick, tick]))
    assert [f.time_ns - FIRST_STAMP_NS for f in Video(tmp_path / "even.mp4")] == [k * 100 * MS for k in range(5)]
    stamps = [f.time_ns - FIRST_STAMP_NS for f in Video(tmp_path / "uneven.mp4")]
    assert stamps == [0, 100 * MS, 200 * MS, 1200 * MS, 2200 * MS]


FORMS = {
    "seconds": (["1305031102.175304", "1305031102.211214"], [1305031102175304000, 1305031102211214000]),
    "seconds without last zeros": (["1305031102.75", "1305031102.125"], [1305031102125000000, 1305031102750000000]),
    "whole seconds": (["1305031103", "1305031102"], [1305031102000000000, 1305031103000000000]),
    "milliseconds": (["1305031102175", "1305031102675"], [1305031102175000000, 1305031102675000000]),
    "microseconds behind a name": (
        ["n015__CAM_FRONT__1533201470912460", "n015__CAM_FRONT__1533201470412460"],
        [1533201470412460000, 1533201470912460000],
    ),
    "nanoseconds without first zeros": (
        ["1305031103.200000000", "1305031103.1"],
        [1305031103000000001, 1305031103200000000],
    ),
}


@pytest.mark.parametrize(("names", "stamps"), FORMS.values(), ids=FORMS)
def test_names_that_are_times(
    tmp_path: Path, names: list[str], stamps: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    folder = FrameFolder(write_images(tmp_path / "f", [f"{name}.png" for name in names]))
    assert [frame.time_ns for frame in folder] == stamps
    assert "the names are read as times in" in caplog.text


@pytest.mark.parametrize(
    ("names", "order"),
    [
        (["1².png", "2².png"], [0, 1]),  # superscripts are no digits
        (["a².png", "a1².png", "²1.png"], [1, 0, 2]),
        (["صورة١٠.png", "صورة٢.png"], [1, 0]),  # Arabic digits are
        (["0000000002.png", "0000000010.png"], [0, 1]),  # KITTI's numbers of ten digits
        (["1305031102175.png", "x.png"], [1, 0]),  # one name is no time
    ],
)
def test_names_that_are_no_times(
    tmp_path: Path, names: list[str], order: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    folder = FrameFolder(write_images(tmp_path / "f", names))
    assert [path.name for path in folder.paths] == [names[k] for k in order]
    assert [frame.time_ns - FIRST_STAMP_NS for frame in folder] == [k * 40 * MS for k in range(len(names))]
    assert "25 images a second are assumed" in caplog.text


def test_hidden_files_are_no_images(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "f", ["1.jpg", "2.jpg"])
    (folder / "._1.jpg").write_bytes(b"what macOS leaves beside a file")
    assert [path.name for path in FrameFolder(folder).paths] == ["1.jpg", "2.jpg"]


def mot_sequence(root: Path, size: tuple[int, int]) -> MotChallengeSequence:
    """Images that lie 96 wide and 64 high and are to be shown turned; a box near their right border."""
    (root / "gt").mkdir(parents=True)
    (root / "gt/gt.txt").write_text("1,1,70,10,20,30,1,1,1\n")
    width, height = size
    (root / "seqinfo.ini").write_text(f"[Sequence]\nseqLength=1\nimWidth={width}\nimHeight={height}\nname=a%b\n")
    write_images(root / "img1", ["000001.jpg"])
    file = root / "img1/000001.jpg"
    entry = struct.pack(">HHLHH", 0x0112, 3, 1, 6, 0)
    exif = b"Exif\0\0MM\0\x2a\0\0\0\x08" + struct.pack(">H", 1) + entry + bytes(4)
    jpeg = file.read_bytes()
    file.write_bytes(jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:])
    return MotChallengeSequence(root)


def test_labels_and_pixels_of_turned_images_agree(tmp_path: Path) -> None:
    frame = next(iter(mot_sequence(tmp_path / "lying", (WIDTH, HEIGHT))))
    assert frame.image.shape == (HEIGHT, WIDTH, 3)
    assert frame.labels is not None and np.array_equal(frame.labels.xyxy, [[70, 10, 90, 40]])
    assert next(iter(mot_sequence(tmp_path / "turned", (HEIGHT, WIDTH)))).image.shape == (WIDTH, HEIGHT, 3)
    with pytest.raises(DataError, match="expected an image of 50x50 pixels, got 96x64"):
        list(mot_sequence(tmp_path / "other", (50, 50)))
    assert cv2.imread(str(tmp_path / "lying/img1/000001.jpg")).shape == (WIDTH, HEIGHT, 3)  # OpenCV turns it
