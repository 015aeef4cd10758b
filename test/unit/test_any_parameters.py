"""Parameters of any value: refused with a sentence, or a tracker runs with them and what it says stays sound."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from camtrack_core.config import Parameters, nested_values, parameter_names, validated
from camtrack_core.errors import ConfigurationError
from camtrack_core.geometry.boxes import Boxes2D, Boxes3D, Detections3D
from gcnet_tracker.config import TrackerConfig
from pkf_filter.image.config import FilterConfig
from pkf_filter.image.tracker import Tracker
from pkf_filter.space.config import WorldConfig
from pkf_filter.space.tracker import WorldTracker

FRAME = 100_000_000
EXTREMES = (
    0, -1, 1, 2, 10**30, -0.0, 1e-300, 1e-9, 0.5, 0.999999999, 1e9, 1e200, 1e308, math.inf, -math.inf, math.nan, True,
    None, "", "nan", "1", "constant velocity", "means", [], [1, 2], ["car"], {}, {"x": 1},
)  # fmt: skip
ANYTHING = st.one_of(st.sampled_from(EXTREMES), st.floats(), st.integers(), st.text(max_size=3), st.floats(0, 1))


def some_of(model: type[Parameters], data: st.DataObject) -> Parameters | None:
    """A model with some parameters of any value; None where they are refused."""
    names = data.draw(st.lists(st.sampled_from(parameter_names(model)), min_size=1, max_size=3, unique=True))
    try:
        return validated(model, nested_values({name: data.draw(ANYTHING) for name in names}))
    except ConfigurationError as error:
        assert "expected" in str(error) or "unknown parameter" in str(error)
        return None


@pytest.mark.parametrize("value", [2**63, 2.0**63, str(2**63), 10.0**300])
def test_whole_numbers_of_more_than_64_bits_are_refused_with_a_sentence(value: object) -> None:
    with pytest.raises(ConfigurationError, match="'merge_hits': expected a whole number"):
        validated(FilterConfig, {"merge_hits": value})


@pytest.mark.parametrize("model", [FilterConfig, WorldConfig, TrackerConfig])
@given(st.data())
@settings(max_examples=200, deadline=None)
def test_what_is_taken_of_any_values_is_a_number(model: type[Parameters], data: st.DataObject) -> None:
    config = some_of(model, data)
    for name in parameter_names(model) if config is not None else ():
        value: Any = config
        for part in name.split("."):
            value = getattr(value, part)
        assert not (isinstance(value, float) and not math.isfinite(value)), name


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_a_tracker_in_the_image_is_sound_with_all_parameters_that_it_takes(data: st.DataObject) -> None:
    config = some_of(FilterConfig, data)
    if config is None:
        return
    tracker = Tracker(config)
    for k in range(5):
        xyxy = np.array([[100.0, 100, 140, 130], [300, 100, 380, 160]]) + 2 * k
        found = tracker.step(10**9 + k * FRAME, Boxes2D(xyxy, np.array([0.9, 0.6]), np.zeros(2, np.int64)))
        assert np.isfinite(found.xyxy).all() and ((found.scores >= 0) & (found.scores <= 1)).all()


def test_scores_that_say_all_are_taken() -> None:
    """A false box of the second score is e^630 times as likely as one of the even score."""
    tracker = Tracker(validated(FilterConfig, {"detector": {"score_slope": 250.0, "score_offset": 0.95}}))
    for k in range(3):
        xyxy = np.array([[100.0, 100, 140, 130], [300, 100, 380, 160]]) + 2 * k
        found = tracker.step(10**9 + k * FRAME, Boxes2D(xyxy, np.array([0.99, 0.2]), np.zeros(2, np.int64)))
    assert len(found) == 1 and found.xyxy[0, 0] < 200


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_a_tracker_in_space_is_sound_with_all_parameters_that_it_takes(data: st.DataObject) -> None:
    config = some_of(WorldConfig, data)
    if config is None:
        return
    tracker = WorldTracker(config)
    tracker.class_id("car")
    for k in range(5):
        centre, size = np.array([[10.0 + k, 2, 0.75], [30, -2, 0.75]]), np.tile([4.2, 1.8, 1.5], (2, 1))
        boxes = Boxes3D(centre, size, np.zeros(2), np.full((2, 3), np.nan))
        found = tracker.step(10**9 + k * FRAME, Detections3D(boxes, np.array([0.9, 0.6]), np.zeros(2, np.int64)))
        assert np.isfinite(found.boxes.centre).all() and ((found.scores >= 0) & (found.scores <= 1)).all()
