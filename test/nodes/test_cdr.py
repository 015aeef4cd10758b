"""Detections to and from their serialised form, against the middleware's own."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rclpy.serialization import deserialize_message, serialize_message
from std_msgs.msg import Header
from vision_msgs.msg import Detection2D, Detection2DArray, ObjectHypothesisWithPose

from camtrack_core.errors import DataError
from camtrack_core.geometry.tracks import Tracks2D
from camtrack_core.ros.messages import cdr
from camtrack_core.ros.messages import detections2d as messages

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
NAMES = ("car", "truck", "bus", "pedestrian", "\u81ea\u8ee2\u8eca")


def a_header(frame_id: str = "camera") -> Header:
    header = Header(frame_id=frame_id)
    header.stamp.sec, header.stamp.nanosec = 1_700_000_000, 123_456_789
    return header


@st.composite
def some_tracks(draw: st.DrawFn) -> Tracks2D:
    count = draw(st.integers(0, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    corner, size = rng.uniform(-50, 2000, (count, 2)), rng.uniform(0, 500, (count, 2))
    ids = 10 ** rng.integers(0, 12, count)
    return Tracks2D(ids, np.hstack([corner, corner + size]), rng.random(count), rng.integers(0, 5, count))


@given(some_tracks(), TEXT)
def test_packed_tracks_are_the_message_that_the_middleware_serialises(tracks: Tracks2D, frame_id: str) -> None:
    header = a_header(frame_id)
    names = [NAMES[i] for i in tracks.class_ids]
    data = cdr.pack(header, [str(i) for i in tracks.ids], names, tracks.scores, tracks.xyxy)
    expected = messages.from_tracks(tracks, NAMES, header)
    assert deserialize_message(data, Detection2DArray) == expected
    # the middleware leaves what stood there before between the numbers, so only the length is the same
    assert len(data) == len(serialize_message(expected))


@given(st.lists(st.tuples(TEXT, TEXT, st.lists(st.tuples(TEXT, st.floats(0, 1)), max_size=3)), max_size=4), TEXT)
def test_unpacked_is_what_the_message_says(rows: list, frame_id: str) -> None:
    message = Detection2DArray(header=a_header(frame_id))
    for number, (identity, frame, results) in enumerate(rows):
        detection = Detection2D(id=identity, header=Header(frame_id=frame))
        detection.bbox.center.position.x, detection.bbox.center.position.y = 10.0 * number, 7.0
        detection.bbox.size_x, detection.bbox.size_y = 4.0, 6.0
        for name, score in results:
            result = ObjectHypothesisWithPose()
            result.hypothesis.class_id, result.hypothesis.score = name, score
            detection.results.append(result)
        message.detections.append(detection)
    read = cdr.unpack(serialize_message(message))
    assert read.header == message.header
    assert read.ids == [row[0] for row in rows]
    best = [max(row[2], key=lambda result: result[1], default=(None, np.nan)) for row in rows]
    assert read.names == [name for name, _ in best]
    np.testing.assert_array_equal(read.scores, [score for _, score in best])
    left = 10.0 * np.arange(len(rows)) - 2
    np.testing.assert_array_equal(read.xyxy, np.column_stack([left, left * 0 + 4, left + 4, left * 0 + 10]))


def test_a_message_that_breaks_off_is_a_sentence() -> None:
    data = cdr.pack(a_header(), ["1", "2"], ["car", "bus"], np.ones(2), np.array([[0, 0, 1, 1], [2, 2, 5, 5]], float))
    assert len(cdr.unpack(data).ids) == 2
    for length in range(len(cdr.LITTLE_ENDIAN), len(data)):
        with pytest.raises(DataError, match="expected a serialised Detection2DArray"):
            cdr.unpack(data[:length])


def test_a_number_that_is_none_is_kept_for_others_to_refuse() -> None:
    data = cdr.pack(a_header(), ["1"], ["car"], np.array([np.nan]), np.array([[0, 0, np.inf, 1]]))
    read = cdr.unpack(data)
    assert np.isnan(read.scores[0]) and not np.isfinite(read.xyxy[0]).all()
