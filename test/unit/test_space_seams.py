"""Which ends of boxes a view cuts, and what is known of the objects then."""

from __future__ import annotations

import numpy as np
import pytest

from pkf_filter.space import models as world
from pkf_filter.space import seams

ORIGIN, AHEAD, VIEW = np.zeros(3), np.array([1.0, 0.0]), np.radians(60.0)


def box(x: float, y: float, yaw: float, length: float) -> np.ndarray:
    return np.array([[x, y, 1.0, yaw, length, 2.0, 3.0]])


@pytest.mark.parametrize(
    ("z", "end"),
    [
        (box(20.0, 8.0, np.pi / 2, 6.0), 1.0),  # the edge is at y = 11.55, the front at 11
        (box(20.0, 8.0, -np.pi / 2, 6.0), -1.0),
        (box(20.0, 6.0, np.pi / 2, 6.0), 0.0),  # 2.2 m before the edge
        (box(20.0, -8.0, np.pi / 2, 6.0), -1.0),
        (box(20.0, 14.0, np.pi / 2, 6.0), 1.0),  # reaches beyond it
        (box(20.0, 11.5, np.pi / 6, 6.0), 0.0),  # lies along it
        (box(-20.0, 0.0, np.pi / 2, 6.0), 0.0),  # behind the sensor, as far from either edge
    ],
)
def test_an_end_at_the_edge_of_the_view_is_cut(z: np.ndarray, end: float) -> None:
    assert seams.cut_ends(z, ORIGIN, AHEAD, VIEW)[0] == end
    turned, angle = z.copy(), 2.0  # all of it turned about the sensor
    cos, sin = np.cos(angle), np.sin(angle)
    turned[0, :2] = cos * z[0, 0] - sin * z[0, 1], sin * z[0, 0] + cos * z[0, 1]
    turned[0, world.YAW] += angle
    assert seams.cut_ends(turned, ORIGIN, np.array([cos, sin]), VIEW)[0] == end


def test_a_box_that_is_cut_may_be_as_long_as_its_class_usually_is() -> None:
    found = seams.unseen_lengths(["bus", "bus", "car"], np.array([6.0, 12.0, 4.5]))
    np.testing.assert_allclose(found, [np.hypot(5.0, 1.65), 1.65, 0.675])


@pytest.mark.parametrize(
    ("track", "beyond"),
    [
        (np.array([0.0, 3.0, 1.0, np.pi / 2, 12.0, 2.0, 3.0, 0, 0, 0]), 6.0),  # y from -3 to 9
        (np.array([0.0, 3.0, 1.0, -np.pi / 2, 12.0, 2.0, 3.0, 0, 0, 0]), 6.0),
        (np.array([0.0, -0.4, 1.0, np.pi / 2, 5.2, 2.0, 3.0, 0, 0, 0]), -0.8),  # within two deviations
        (np.array([0.0, -1.5, 1.0, np.pi / 2, 3.0, 2.0, 3.0, 0, 0, 0]), 0.0),  # clearly shorter: it has to grow
        (np.array([0.0, 3.0, 1.0, 0.0, 12.0, 2.0, 3.0, 0, 0, 0]), 1.0),  # across: a metre of its width
    ],
)
def test_a_cut_box_reaches_as_far_as_its_track(track: np.ndarray, beyond: float) -> None:
    z = box(0.0, 0.0, np.pi / 2, 6.0)  # y from -3 to 3, cut at 3
    assert world.hidden_length(z[0], track, 1.0, 0.5) == pytest.approx(beyond)
    noise = np.diag([0.1, 0.1, 0.1, 0.1, 0.25, 0.1, 0.1])[None]
    difference, _, _ = world.innovations(z, np.array([1.0]), track[None], 100 * np.eye(10)[None], noise, gate=5.0)
    np.testing.assert_allclose(difference[0, 0, :2], [0.0, beyond / 2 - track[1]], atol=1e-12)
    if beyond and abs(np.sin(track[world.YAW])) == 1.0:  # of a track of the same length in view, nothing is left
        assert difference[0, 0, world.LENGTH] == pytest.approx(6.0 + beyond - track[world.LENGTH])


def test_the_end_at_the_edge_is_uncertain_and_the_other_one_is_not() -> None:
    """Variances of the ends y + L / 2 and y - L / 2 of a track along y, of which the first is cut."""
    z, track = box(0.0, 0.0, np.pi / 2, 6.0), np.array([[0.0, 0.0, 1.0, np.pi / 2, 6.0, 2.0, 3.0, 0, 0, 0]])
    covariance, noise = 0.04 * np.eye(10)[None], np.diag([0.1, 0.1, 0.1, 0.1, 0.25, 0.1, 0.1])[None]

    def spread(cut: float, weight: float) -> np.ndarray:
        after = covariance + seams.end_spread(
            track, covariance, z, np.array([cut]), np.array([5.0]), np.array([[weight]]), noise
        )
        front = np.zeros(10)
        front[[world.Y, world.LENGTH]] = 1.0, 0.5
        back = front * np.where(np.arange(10) == world.LENGTH, -1.0, 1.0)
        return np.array([front @ after[0] @ front, back @ after[0] @ back])

    np.testing.assert_allclose(spread(1.0, 0.9), [25.0, 0.05])
    np.testing.assert_allclose(spread(-1.0, 0.9), [0.05, 25.0])
    np.testing.assert_allclose(spread(0.0, 0.9), [0.05, 0.05])
    np.testing.assert_allclose(spread(1.0, 0.4), [0.05, 0.05])  # measured by somebody else's box
    track[0, [world.Y, world.LENGTH]] = 3.0, 12.0  # its end was seen elsewhere
    np.testing.assert_allclose(spread(1.0, 0.9), [0.05, 0.05])
